"""Predict on images and videos, and write drawings and one COCO json."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ..runtime.coco_file import JSON_NAME, CocoFile, make_folder
from ..runtime.exported import ImageSizeError
from ..runtime.images import allow_any_size
from ..runtime.inputs import (
    Source,
    UnreadableError,
    check_depth,
    common_folder,
    find_files,
    notes_on_pages,
    probe,
    read_frames,
)
from ..runtime.options import ViewOptions
from ..runtime.predictor import ImagePredictor
from ..utils.hardware import is_out_of_memory
from .data_ids import DataIds
from .drawing import draw_detections
from .outputs import drawing_name, drawing_writer
from .predictor import open_predictor
from .run_control import RunControl
from .streams import probe_stream, put_live_last, split_inputs

RESULTS_NAME = "coco_instances_results.json"

Item = TypeVar("Item")


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
    show: bool = False,
    views: ViewOptions = ViewOptions(),
) -> list[str]:
    """Predict on images, videos and streams, draw the detections, and write ``predictions.json``.

    All inputs are probed before the first is decoded, and the json is written last. Paths relative
    to the common folder of all inputs are the ``file_name`` in the json and the path of the drawing
    in ``output``. A stream without an end is read last, until Ctrl-C.

    Args:
        weights: as of :func:`open_predictor`.
        inputs: images, videos, folders, patterns of them, indices of cameras and addresses.
        output: folder for the json and the drawings.
        score_threshold: lowest score to draw; the json has all detections.
        device: of PyTorch; None takes CUDA where there is one, unless ``fast`` is asked for.
        fast: on CPU, use :func:`clq.modeling.fast_inference_model`.
        skip_unreadable: skip files that can't be decoded.
        pictures: draw the detections.
        ids_from: a COCO json of all inputs, whose ids are written; see :class:`DataIds`.
        show: show the drawings in a window, whose keys q and Esc end the run.
        views: tiling and test-time augmentation.

    Returns:
        A report, one sentence an entry.

    Raises:
        OSError: the output can't be written.
        ValueError: naming a missing or unreadable input, or an invalid argument.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"--score-threshold is {score_threshold}; it must lie in [0, 1].")
    weights, output = os.path.expanduser(weights), Path(output).expanduser()
    control, unreadable = RunControl(show=show), _Unreadable(skip_unreadable)
    ids = DataIds(Path(ids_from).expanduser()) if ids_from else None
    sources, root = _find_sources(inputs, output, unreadable, any_size=bool(views.tile))
    targets = _drawing_paths(sources, output) if pictures else {}
    image_ids = ids.of_images(sources) if ids else {}
    _check_targets(targets.values(), weights, sources, output)
    predictor = open_predictor(weights, device, fast=fast).with_options(views)
    sources = unreadable.leave_out(lambda s: check_depth(s, predictor.settings.bit_depth), sources)
    names, info = predictor.class_names, {"weights": str(weights), "image_root": str(root)}
    category_ids = ids.of_classes(names) if ids else None
    coco = CocoFile(names, info, category_ids=category_ids, image_ids=image_ids)
    make_folder(output)
    counts = _predict_all(predictor, sources, targets, coco, score_threshold, unreadable, control)
    _write(coco, output, with_results=ids is not None)
    notes = _notes_on_ends(counts, sources, control)
    return notes + _report(counts, unreadable, coco.num_detections, output, pictures=pictures)


def _write(coco: CocoFile, output: Path, *, with_results: bool) -> None:
    coco.write(output / JSON_NAME)
    if with_results:
        coco.write_results(output / RESULTS_NAME)


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

    def leave_out(self, read: Callable[[Item], Source], items: Iterable[Item]) -> list[Source]:
        """Call ``read`` on each item; its results without those of unreadable items."""
        readable = []
        for item in items:
            with self.skip_or_raise():
                readable.append(read(item))
        return readable


def _find_sources(
    inputs: Sequence[str | Path], output: Path, unreadable: _Unreadable, *, any_size: bool
) -> tuple[list[Source], Path]:
    """Find and probe all inputs; returns them and the common folder of the files."""
    if any_size:
        allow_any_size()
    streams, paths = split_inputs(inputs, ignored=output)
    files, root = find_files(paths, ignored=output), common_folder(paths)
    sources = unreadable.leave_out(lambda path: probe(path, root), files)
    return put_live_last(sources + unreadable.leave_out(probe_stream, streams)), root


def _drawing_paths(sources: Sequence[Source], output: Path) -> dict[Source, Path]:
    """Return the path of each input's drawing, unless one would replace another."""
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
    """Reject a file to write that would replace an input or another output.

    Nor may it lie outside of the output folder, because of a symbolic link.
    """
    files = [source.path for source in sources if source.address is None]
    used = {os.path.realpath(path) for path in (weights, *files)}
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


def _predict_all(
    predictor: ImagePredictor,
    sources: Sequence[Source],
    targets: dict[Source, Path],
    coco: CocoFile,
    score_threshold: float,
    unreadable: _Unreadable,
    control: RunControl,
) -> dict[Source, int]:
    """Predict on all inputs, at least one; returns the frames of each that can be read."""
    counts: dict[Source, int] = {}
    total = sum(source.num_frames for source in sources) or None
    with (
        contextlib.closing(control),
        tqdm(total=total, unit="image", disable=None) as progress,
    ):
        for source in sources:
            if control.ended_by:
                break
            target = targets.get(source)
            with unreadable.skip_or_raise():
                try:
                    counts[source] = _predict(
                        predictor, source, target, coco, score_threshold, progress, control
                    )
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    raise UnreadableError(f"{source.path} is too large for the memory") from error
    if not counts:
        raise ValueError(f"no input can be read; {unreadable.sentences[0]}.")
    return counts


def _predict(
    predictor: ImagePredictor,
    source: Source,
    target: Path | None,
    coco: CocoFile,
    score_threshold: float,
    progress: tqdm,
    control: RunControl,
) -> int:
    """Predict on an image or on each frame of a video; returns their number."""
    count = 0
    bit_depth = predictor.settings.bit_depth
    writer = drawing_writer(source, target) if target else contextlib.nullcontext()
    with writer as write, control.end_on_interrupt(source):
        for count, image in enumerate(read_frames(source, bit_depth), start=1):
            try:
                (found,) = predictor.find([image])
            except ImageSizeError as error:
                raise UnreadableError(f"{source.path}: {str(error).rstrip('.')}") from error
            if write or control.shows:
                drawing = draw_detections(image, found, predictor.class_names, score_threshold)
            if write:
                write(drawing)
            coco.add(source.name, found, frame=count - 1 if source.is_video else None)
            progress.update()
            if control.shows:
                control.show(drawing, source)
            if control.ended_by:
                break
    return count


def _notes_on_ends(
    counts: Mapping[Source, int], sources: Sequence[Source], control: RunControl
) -> list[str]:
    """Describe what ended live streams, and the run before its inputs did."""
    lines = [
        f"note: {source.name} gave {_number(count, 'frame')} until {control.ended_by or 'it ended'}"
        for source, count in counts.items()
        if source.is_live
    ]
    if control.ended_by and not lines:
        left = sum(source not in counts for source in sources)
        lines = [f"note: {control.ended_by} ended the run; {_number(left, 'input')} left out"]
    return lines


def _report(
    counts: dict[Source, int],
    unreadable: _Unreadable,
    num_detections: int,
    output: Path,
    *,
    pictures: bool,
) -> list[str]:
    """Describe skipped inputs, images of several pages, truncated videos, and at last the whole."""
    lines = [f"skipped: {sentence}" for sentence in unreadable.sentences]
    lines += notes_on_pages(counts)
    videos = {source: count for source, count in counts.items() if source.is_video}
    lines += [
        f"note: {source.path} gave {count} frames, but its header tells of {source.num_frames}"
        for source, count in videos.items()
        if count < source.num_frames
    ]
    num_images = len(counts) - len(videos)
    done = [_number(num_images, "image")] if num_images or not videos else []
    if videos:
        done.append(f"{_number(len(videos), 'video')} of {_number(sum(videos.values()), 'frame')}")
    if unreadable.sentences:
        done.append(f"{len(unreadable.sentences)} skipped")
    done.append(_number(num_detections, "detection"))
    places = f"pictures in {output}/, " if pictures else ""
    return [*lines, f"{', '.join(done)}; {places}boxes in {output / JSON_NAME}"]


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
