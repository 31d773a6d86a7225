"""Prediction inputs: images and videos, all probed before the first is decoded.

Streams are found and probed in :mod:`streams`, and read here.

OpenCV is imported only to open a video.

Letters: H, W height and width of an image in pixels.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .images import (
    DEPTH_UNKNOWN,
    IMAGE_SUFFIXES,
    NO_FILE,
    READ_ERRORS,
    is_deep,
    read_image,
    reason_of,
)

# Files to find in a folder, beside images. A file that is named itself may have any suffix.
VIDEO_SUFFIXES = frozenset(
    (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
)


class UnreadableError(ValueError):
    """An input that exists but can't be decoded; the message is a sentence without a full stop."""


@dataclass(frozen=True)
class Source:
    """An image or a video that could be opened."""

    path: Path  # as the user wrote it or its folder
    name: str  # relative to the common folder of all inputs, with slashes
    is_video: bool = False
    num_frames: int = 1  # from the header of a video, 0 if unknown
    frame_rate: float = 25.0  # of a video, in frames per second, if its header states it
    is_deep: bool = False  # an image of more than 8 bits per channel
    has_more: bool = False  # pages or frames behind the first, of which an image is read
    # Of a stream: an index or a URL, which may hold a password. Its path is its name.
    address: int | str | None = field(default=None, repr=False)

    @property
    def is_live(self) -> bool:
        """Tell whether it is a stream without an end."""
        return self.address is not None and self.is_video and self.num_frames == 0


def find_files(inputs: Sequence[str | Path], *, ignored: Path) -> list[Path]:
    """List the given files, and the images and videos in the given folders.

    Folders are searched recursively, in sorted order, without hidden files and without ``ignored``.
    A file that is found twice counts once.

    Args:
        inputs: files and folders.
        ignored: a folder, such as that of earlier predictions.

    Raises:
        ValueError: naming a path that does not exist or a folder without images and videos.
    """
    found: dict[str, Path] = {}
    for path in map(Path, inputs):
        if not path.exists():
            raise ValueError(f"{path} does not exist.")
        files = _search(path, ignored) if path.is_dir() else [path]
        if not files:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
            raise ValueError(f"the folder {path} has no image and no video ({kinds}).")
        for file in files:
            found.setdefault(os.path.abspath(file), file)
    return list(found.values())


def _search(folder: Path, ignored: Path) -> list[Path]:
    excluded = os.path.realpath(ignored)  # unlike resolve, it takes a link to itself
    is_asked_for = folder.resolve().is_relative_to(excluded)
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and (is_asked_for or not path.resolve().is_relative_to(excluded))
    ]


def common_folder(inputs: Sequence[str | Path]) -> Path:
    """Find the deepest folder that contains all inputs; an input folder contains itself.

    That of no inputs is the working directory.
    """
    inputs = inputs or [Path()]
    paths = map(os.path.abspath, inputs)
    return Path(os.path.commonpath([p if os.path.isdir(p) else os.path.dirname(p) for p in paths]))


def probe(path: Path, root: Path) -> Source:
    """Read the header of an image, or a video up to its first frame.

    Args:
        path: of an image or a video.
        root: folder that its name is relative to.

    Raises:
        UnreadableError: naming the file.
    """
    name = Path(os.path.relpath(path, root)).as_posix()
    if not path.is_file():  # a FIFO would be waited for
        raise UnreadableError(f"{path} can't be read ({NO_FILE})")
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return _probe_video(path, name)
    try:
        with Image.open(path) as image:
            # MPO, of many phones, has the same picture once more, for depth or preview.
            has_more = getattr(image, "is_animated", False) and image.format != "MPO"
            return Source(path, name, is_deep=is_deep(image), has_more=has_more)
    except READ_ERRORS as error:
        if isinstance(error, Image.UnidentifiedImageError) and suffix not in IMAGE_SUFFIXES:
            return _probe_video(path, name)
        raise UnreadableError(f"{path} can't be read ({reason_of(error)})") from error


def open_capture(address: str | int) -> Any:
    """Open a file, a URL or a camera by OpenCV, without messages of OpenCV and FFmpeg.

    They have the name as it is, or a part of it.
    """
    import cv2

    cv2.utils.logging.setLogLevel(0)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet; read when the first is opened
    return cv2.VideoCapture(address)


def _probe_video(path: Path, name: str) -> Source:
    try:
        import cv2
    except ImportError:
        raise UnreadableError(
            f"{path} can't be read (it is no image, and videos need opencv-python-headless)"
        ) from None
    capture = open_capture(str(path))
    try:
        if not capture.isOpened() or not capture.grab():  # some text files open as raw streams
            kind = "a video" if path.suffix.lower() in VIDEO_SUFFIXES else "an image or a video"
            raise UnreadableError(f"{path} can't be read as {kind}")
        count, rate = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
        source = Source(path, name, is_video=True, num_frames=max(int(count), 0))
        return replace(source, frame_rate=rate) if rate > 0 else source
    finally:
        capture.release()


def notes_on_pages(sources: Iterable[Source]) -> list[str]:
    """Tell which images have more pages or frames than the one that is read."""
    return [
        f"note: {source.path} has several pages or frames; the first was used"
        for source in sources
        if source.has_more
    ]


def check_depth(source: Source, bit_depth: int) -> Source:
    """Return a source whose depth ``INPUT.BIT_DEPTH`` of the detector covers.

    Raises:
        UnreadableError: naming the file.
    """
    if source.is_deep and bit_depth == 8:
        raise UnreadableError(f"{source.path} can't be read ({DEPTH_UNKNOWN})")
    return source


def read_frames(source: Source, bit_depth: int = 8) -> Iterator[np.ndarray]:
    """Decode an image, or the frames of a video in order.

    Args:
        source: of :func:`probe`.
        bit_depth: of :func:`clq.runtime.images.read_image`.

    Yields:
        (H, W, 3) uint8 BGR, upright.

    Raises:
        UnreadableError: naming the file; a video raises it only if no frame can be decoded.
    """
    if source.is_video:
        yield from _read_video(source)
        return
    if source.address is not None:
        yield from itertools.islice(_read_video(source), 1)
        return
    try:
        image = read_image(source.path, bit_depth=bit_depth)
    except READ_ERRORS as error:
        raise UnreadableError(f"{source.path} can't be read ({reason_of(error)})") from error
    yield image


def _read_video(source: Source) -> Iterator[np.ndarray]:
    path = source.path
    capture = open_capture(str(path) if source.address is None else source.address)
    try:
        is_read, frame = capture.read()
        if not is_read:
            raise UnreadableError(f"{path} can't be read (not a single frame of it can be decoded)")
        while is_read:
            yield frame
            is_read, frame = capture.read()
    finally:
        capture.release()
