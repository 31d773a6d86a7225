"""Predict on images and videos, and write drawings and one COCO json."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..utils.hardware import is_out_of_memory
from .data_ids import DataIds
from .drawing import draw_detections
from .inputs import (
    Source,
    UnreadableError,
    check_depth,
    common_folder,
    find_files,
    probe,
    read_frames,
)
from .outputs import CocoFile, drawing_name, drawing_writer
from .predictor import Predictor, usable_device

JSON_NAME = "predictions.json"
RESULTS_NAME = "coco_instances_results.json"


def predict_files(
    weights: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    score_threshold: float = 0.3,
    device: str | None = None,
    fast: bool = False,
    skip_unreadable: bool = False,
    pictures: bool = True,
    ids_from: str | Path | None = None,
) -> list[str]:
    """Predict on images and videos, draw the detections, and write ``predictions.json``.

    All inputs are probed before the first is decoded, and the json is written last. Paths relative
    to the common folder of all inputs are the ``file_name`` in the json and the path of the drawing
    in ``output``.

    Args:
        weights: a checkpoint with its configuration inside.
        inputs: images, videos and folders.
        output: folder for the json and the drawings.
        score_threshold: lowest score to draw; the json has all detections.
        device: of PyTorch; None takes CUDA where there is one, unless ``fast`` is asked for.
        fast: on CPU, use :func:`clq.modeling.fast_inference_model`.
        skip_unreadable: skip files that can't be decoded.
        pictures: draw the detections.
        ids_from: a COCO json of all inputs, whose ids are written; see :class:`DataIds`.

    Returns:
        A report, one sentence an entry.

    Raises:
        OSError: the output can't be written.
        ValueError: naming a missing or unreadable input, or an invalid argument.
    """
    _check_threshold(score_threshold)
    weights, output = os.path.expanduser(weights), Path(output).expanduser()
    inputs, unreadable = [Path(path).expanduser() for path in inputs], _Unreadable(skip_unreadable)
    ids = DataIds(Path(ids_from).expanduser()) if ids_from else None
    sources, root = _probe_all(inputs, output, unreadable)
    targets = _drawing_paths(sources, output) if pictures else {}
    image_ids = ids.of_images(sources) if ids else {}
    _check_targets(targets.values(), weights, sources, output)
    usable = usable_device("cpu" if fast and device is None else device)
    predictor = Predictor.from_checkpoint(weights, usable, fast=fast)
    sources = _readable(sources, predictor.cfg.INPUT.BIT_DEPTH, unreadable)
    category_ids = ids.of_classes(predictor.class_names) if ids else None
    _make_folder(output)
    coco = CocoFile(
        predictor.class_names,
        {"weights": str(weights), "image_root": str(root)},
        category_ids=category_ids,
        image_ids=image_ids,
    )
    counts = _predict_all(predictor, sources, targets, coco, score_threshold, unreadable)
    _write(coco, output, with_results=ids is not None)
    return _report(coco.num_detections, counts, unreadable, output, pictures=pictures)


@dataclass
class _Unreadable:
    """Handling of unreadable inputs: raise at the first, or skip and count all."""

    may_skip: bool
    sentences: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def skip_or_raise(self) -> Iterator[None]:
        """Record an :class:`UnreadableError` raised within the context.

        Raises:
            ValueError: unreadable inputs must not be skipped.
        """
        try:
            yield
        except UnreadableError as error:
            if not self.may_skip:
                raise ValueError(f"{error}; --skip-unreadable goes on without it.") from error
            self.sentences.append(str(error))


def _probe_all(
    inputs: Sequence[str | Path], output: Path, unreadable: _Unreadable
) -> tuple[list[Source], Path]:
    """Return the readable inputs, and the folder that their names are relative to."""
    files = find_files(inputs, ignored=output)
    root = common_folder(inputs)
    sources = []
    for path in files:
        with unreadable.skip_or_raise():
            sources.append(probe(path, root))
    return sources, root


def _readable(sources: Sequence[Source], bit_depth: int, unreadable: _Unreadable) -> list[Source]:
    """Return the inputs whose bit depth the detector was trained for."""
    readable = []
    for source in sources:
        with unreadable.skip_or_raise():
            readable.append(check_depth(source, bit_depth))
    return readable


def _drawing_paths(sources: Sequence[Source], output: Path) -> dict[Source, Path]:
    """Return the path of each input's drawing.

    Raises:
        ValueError: a drawing would replace another.
    """
    owners: dict[Path, Source] = {}
    for source in sources:
        target = output / drawing_name(source)
        other = owners.setdefault(target, source)
        if other is not source:
            raise ValueError(
                f"the pictures of {other.path} and {source.path} would both be {target}; predict "
                "on one after the other, in two folders."
            )
    return {source: target for target, source in owners.items()}


def _check_targets(
    drawings: Iterable[Path], weights: str | Path, sources: Sequence[Source], output: Path
) -> None:
    """Check the files to write: the drawings and those of the boxes.

    Raises:
        ValueError: a file to write would replace an input, lie outside of the output folder because
            of a symbolic link, or need a folder in the place of another file to write.
    """
    used = {os.path.realpath(path) for path in (weights, *(source.path for source in sources))}
    targets = [output / JSON_NAME, output / RESULTS_NAME, *drawings]
    home, names = os.path.realpath(output), set(targets)
    for target in targets:
        if os.path.realpath(target) in used:
            problem = f"would replace the input {target}"
        elif not Path(os.path.realpath(target.parent)).is_relative_to(home):
            problem = f"would write {target} outside of {output}, through a symbolic link"
        elif not names.isdisjoint(target.parents) or target.is_dir():
            problem = f"can't write {target}, where another output or a folder is"
        else:
            continue
        raise ValueError(f"the prediction {problem}; name another folder by --output.")


def _make_folder(output: Path) -> None:
    """Create the output folder, and check that it is writable."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise OSError(
            f"the folder {output} can't be written ({error.strerror or error}); name another by "
            "--output."
        ) from error


@contextlib.contextmanager
def _name_too_large(source: Source) -> Iterator[None]:
    """
    Raises:
        UnreadableError: the memory does not suffice for the input.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UnreadableError(f"{source.path} is too large for the memory") from error


def _predict_all(
    predictor: Predictor,
    sources: Sequence[Source],
    targets: dict[Source, Path],
    coco: CocoFile,
    score_threshold: float,
    unreadable: _Unreadable,
) -> dict[Source, int]:
    """Predict on all inputs; returns the number of frames of each that can be read.

    Raises:
        ValueError: none can.
    """
    counts: dict[Source, int] = {}
    with tqdm(total=sum(s.num_frames for s in sources), unit="image", disable=None) as progress:
        for source in sources:
            with unreadable.skip_or_raise(), _name_too_large(source):
                counts[source] = _predict(
                    predictor, source, targets.get(source), coco, score_threshold, progress
                )
    if not counts:
        raise ValueError(f"no input can be read; {unreadable.sentences[0]}.")
    return counts


def _predict(
    predictor: Predictor,
    source: Source,
    target: Path | None,
    coco: CocoFile,
    score_threshold: float,
    progress: tqdm,
) -> int:
    """Predict on an image or on each frame of a video; returns their number."""
    count = 0
    bit_depth = predictor.cfg.INPUT.BIT_DEPTH
    writer = drawing_writer(source, target) if target else contextlib.nullcontext()
    with writer as write:
        for count, image in enumerate(read_frames(source, bit_depth), start=1):
            found = predictor.detect(image)
            if write:
                write(draw_detections(image, found, predictor.class_names, score_threshold))
            coco.add(source.name, found, frame=count - 1 if source.is_video else None)
            progress.update()
    return count


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"--score-threshold is {threshold}; it must lie in [0, 1].")


def _write(coco: CocoFile, output: Path, *, with_results: bool) -> None:
    """Write ``predictions.json``, and the list that pycocotools' ``loadRes`` reads."""
    coco.write(output / JSON_NAME)
    if with_results:
        coco.write_results(output / RESULTS_NAME)


def _report(
    num_detections: int,
    counts: dict[Source, int],
    unreadable: _Unreadable,
    output: Path,
    *,
    pictures: bool,
) -> list[str]:
    done = [*_counted(counts, unreadable), _number(num_detections, "detection")]
    places = f"pictures in {output}/, " if pictures else ""
    summary = f"{', '.join(done)}; {places}boxes in {output / JSON_NAME}"
    skipped = [f"skipped: {sentence}" for sentence in unreadable.sentences]
    return [*skipped, *_notes(counts), summary]


def _notes(counts: dict[Source, int]) -> list[str]:
    """Describe truncated videos and images of several pages, one sentence each."""
    return [
        f"note: {source.path} has several pages or frames; the first was used"
        for source in counts
        if source.has_more
    ] + [
        f"note: {source.path} gave {count} frames, but its header tells of {source.num_frames}"
        for source, count in counts.items()
        if source.is_video and count < source.num_frames
    ]


def _counted(counts: dict[Source, int], unreadable: _Unreadable) -> list[str]:
    images = [source for source in counts if not source.is_video]
    frames = [count for source, count in counts.items() if source.is_video]
    done = [_number(len(images), "image")] if images or not frames else []
    if frames:
        done.append(f"{_number(len(frames), 'video')} of {_number(sum(frames), 'frame')}")
    if unreadable.sentences:
        done.append(f"{len(unreadable.sentences)} skipped")
    return done


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
