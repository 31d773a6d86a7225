"""From a checkpoint, images and videos to their pictures and one COCO json."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .coco_file import CocoFile
from .drawing import draw_detections
from .inputs import Source, UnreadableError, find_files, look_at, read_frames, shared_folder
from .picture_files import picture_name, picture_writer
from .predictor import Predictor, usable_device

JSON_NAME = "predictions.json"


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
) -> list[str]:
    """Detect in images and videos, draw what is found, and write it as ``predictions.json``.

    All inputs are looked at before the first is decoded, and the json is written after the last.
    An input keeps its place below the folder that all inputs share, as ``file_name`` in the json
    and as its picture in ``output``.

    Args:
        weights: a checkpoint with its configuration inside.
        inputs: images, videos and folders.
        output: folder for the json and the pictures.
        score_threshold: lowest score in the pictures; the json has all that the model gives.
        device: of PyTorch; None takes CUDA where there is one, unless ``fast`` is asked for.
        fast: on CPU, as fast as the processor can, see :func:`clq.modeling.fast_inference_model`.
        skip_unreadable: pass over files that can't be decoded.
        pictures: whether to draw.

    Returns:
        What was done, a sentence each.

    Raises:
        OSError: the output can't be written.
        ValueError: naming an input that is not there or can't be read, or what else is wrong.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"--score-threshold is {score_threshold}; it must lie in [0, 1].")
    output, unreadable = Path(output), _Unreadable(skip_unreadable)
    sources, root = _look_at_all(inputs, output, unreadable)
    targets = _picture_paths(sources, output) if pictures else {}
    usable = usable_device("cpu" if fast and device is None else device)
    predictor = Predictor.from_checkpoint(weights, usable, fast=fast)
    _make_folder(output)
    coco = CocoFile(predictor.class_names, {"weights": str(weights), "image_root": str(root)})
    counts: dict[Source, int] = {}
    with tqdm(total=sum(s.num_frames for s in sources), unit="image", disable=None) as progress:
        for source in sources:
            with unreadable.passed_over():
                target = targets.get(source)
                counts[source] = _predict(
                    predictor, source, target, coco, score_threshold, progress
                )
    if not counts:
        raise ValueError(f"no input can be read; {unreadable.sentences[0]}.")
    coco.write(output / JSON_NAME)
    places = f"pictures in {output}/, " if pictures else ""
    done = [*_counted(counts, unreadable), _number(coco.num_detections, "detection")]
    summary = f"{', '.join(done)}; {places}boxes in {output / JSON_NAME}"
    skipped = [f"skipped: {sentence}" for sentence in unreadable.sentences]
    return [*skipped, *_notes(counts), summary]


@dataclass
class _Unreadable:
    """Handling of inputs that can't be decoded: the first ends the run, or all are noted."""

    may_skip: bool
    sentences: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def passed_over(self) -> Iterator[None]:
        """Note that the input inside can't be read.

        Raises:
            ValueError: it can't, and must not be passed over.
        """
        try:
            yield
        except UnreadableError as error:
            if not self.may_skip:
                raise ValueError(f"{error}; --skip-unreadable goes on without it.") from error
            self.sentences.append(str(error))


def _look_at_all(
    inputs: Sequence[str | Path], output: Path, unreadable: _Unreadable
) -> tuple[list[Source], Path]:
    """Inputs whose headers are in order, and the folder that their names start from."""
    files = find_files(inputs, ignored=output)
    root = shared_folder(inputs)
    sources = []
    for path in files:
        with unreadable.passed_over():
            sources.append(look_at(path, root))
    return sources, root


def _picture_paths(sources: Sequence[Source], output: Path) -> dict[Source, Path]:
    """Where the picture of each input goes.

    Raises:
        ValueError: a picture would replace an input or another picture.
    """
    inputs = {source.path.resolve() for source in sources}
    owners: dict[Path, Source] = {}
    for source in sources:
        target = output / picture_name(source)
        if target.resolve() in inputs:
            raise ValueError(
                f"the picture of {source.path} would replace the input {target}; name another "
                "folder by --output."
            )
        other = owners.setdefault(target, source)
        if other is not source:
            raise ValueError(
                f"the pictures of {other.path} and {source.path} would both be {target}; predict "
                "on one after the other, in two folders."
            )
    return {source: target for target, source in owners.items()}


def _make_folder(output: Path) -> None:
    """Make the output folder, and make sure that it takes a file before there is work done."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise OSError(
            f"the folder {output} can't be written ({error.strerror or error}); name another by "
            "--output."
        ) from error


def _predict(
    predictor: Predictor,
    source: Source,
    target: Path | None,
    coco: CocoFile,
    score_threshold: float,
    progress: tqdm,
) -> int:
    """Detect in an image or in each frame of a video, and return how many there were."""
    count = 0
    writer = picture_writer(source, target) if target else contextlib.nullcontext()
    with writer as write:
        for count, image in enumerate(read_frames(source), start=1):
            found = predictor.detect(image)
            coco.add(source.name, found, frame=count - 1 if source.is_video else None)
            if write:
                write(draw_detections(image, found, predictor.class_names, score_threshold))
            progress.update()
    return count


def _notes(counts: dict[Source, int]) -> list[str]:
    """Notes on inputs that were read, a sentence each."""
    notes = [
        f"note: {source.path} gave {count} frames, but its header tells of {source.num_frames}"
        for source, count in counts.items()
        if source.is_video and count < source.num_frames
    ]
    deep = [source.path for source in counts if source.is_deep]
    if deep:
        others = f" and {len(deep) - 1} more" if len(deep) > 1 else ""
        notes.append(
            f"note: {deep[0]}{others} of more than 8 bits: what is above 255 counts as 255, as in "
            "training"
        )
    return notes


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
