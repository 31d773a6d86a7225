"""Inputs of prediction: images and videos, all found and probed before the first is decoded.

OpenCV is imported where a video is opened: what else there is to predict on does without.

Letters: H, W height and width of an image in pixels.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.images import READ_ERRORS, read_image, reason_of

# What a folder is searched for. A file that is named itself may end in anything.
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
VIDEO_SUFFIXES = frozenset(
    (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
)
# Pillow's modes of more than 8 bits; turned into 8 bits, all that is above 255 becomes 255.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class UnreadableError(ValueError):
    """A file that is there but can't be decoded; the message is a sentence without its stop."""


@dataclass(frozen=True)
class Source:
    """An image or a video that could be opened."""

    path: Path  # as the user named it or its folder
    name: str  # below the folder that all inputs share, with slashes
    is_video: bool = False
    num_frames: int = 1  # as the header of a video says, 0 where it does not
    frame_rate: float = 25.0  # frames a second of a video, if its header says
    is_deep: bool = False  # an image of more than 8 bits a value


def find_files(inputs: Sequence[str | Path], *, ignored: Path) -> list[Path]:
    """The files that are named, and in place of a folder the images and videos in it.

    Folders are searched with all below them, in the order of the paths. Names that begin with a dot
    are passed over, and so is what lies in ``ignored``. A file that is found twice counts once.

    Args:
        inputs: files and folders.
        ignored: a folder, such as that of earlier predictions.

    Raises:
        ValueError: naming a path that does not exist or a folder without image and video.
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
    barred = ignored.resolve()
    is_asked_for = folder.resolve().is_relative_to(barred)
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and (is_asked_for or not path.resolve().is_relative_to(barred))
    ]


def shared_folder(inputs: Sequence[str | Path]) -> Path:
    """The deepest folder that holds all inputs; a folder that is an input holds itself."""
    paths = map(os.path.abspath, inputs)
    return Path(os.path.commonpath([p if os.path.isdir(p) else os.path.dirname(p) for p in paths]))


def look_at(path: Path, root: Path) -> Source:
    """Read the header of an image, or a video up to its first frame.

    Args:
        path: of an image or a video.
        root: folder that holds it, from which it gets its name.

    Raises:
        UnreadableError: naming the file.
    """
    name = Path(os.path.relpath(path, root)).as_posix()
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return _look_at_video(path, name)
    try:
        with Image.open(path) as image:
            return Source(path, name, is_deep=image.mode in _DEEP_MODES)
    except Image.UnidentifiedImageError as error:
        if suffix in IMAGE_SUFFIXES:
            raise UnreadableError(f"{path} can't be read ({reason_of(error)})") from error
        return _look_at_video(path, name)
    except READ_ERRORS as error:
        raise UnreadableError(f"{path} can't be read ({reason_of(error)})") from error


def _look_at_video(path: Path, name: str) -> Source:
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened() or not capture.grab():  # some text opens as a raw stream
            kind = "a video" if path.suffix.lower() in VIDEO_SUFFIXES else "an image or a video"
            raise UnreadableError(f"{path} can't be read as {kind}")
        count, rate = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
        source = Source(path, name, is_video=True, num_frames=max(int(count), 0))
        return replace(source, frame_rate=rate) if rate > 0 else source
    finally:
        capture.release()


def read_frames(source: Source) -> Iterator[np.ndarray]:
    """Decode the one image, or the frames of a video one after another.

    Yields:
        (H, W, 3) uint8, blue first, upright as the file's own orientation says.

    Raises:
        UnreadableError: naming the file; for a video, where not a single frame can be decoded.
    """
    if source.is_video:
        yield from _read_video(source.path)
        return
    try:
        image = read_image(source.path)
    except READ_ERRORS as error:
        raise UnreadableError(f"{source.path} can't be read ({reason_of(error)})") from error
    yield image


def _read_video(path: Path) -> Iterator[np.ndarray]:
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        is_read, frame = capture.read()
        if not is_read:
            raise UnreadableError(f"{path} can't be read (not a single frame of it can be decoded)")
        while is_read:
            yield frame
            is_read, frame = capture.read()
    finally:
        capture.release()
