"""Drawings of a prediction, as images and videos.

Letters: H, W height and width of a drawing in pixels.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..runtime.inputs import IMAGE_SUFFIXES, Source
from ..utils.atomic_write import explain_write_errors, open_atomically

Write = Callable[[np.ndarray], None]


def drawing_name(source: Source) -> str:
    """Name the drawing of an input: the input's own name if that format can be written."""
    if source.is_video:
        return source.name if source.name.lower().endswith(".mp4") else f"{source.name}.mp4"
    is_known = source.path.suffix.lower() in IMAGE_SUFFIXES
    return source.name if is_known else f"{source.name}.png"


@contextlib.contextmanager
def drawing_writer(source: Source, path: Path) -> Iterator[Write]:
    """Open a writer for the drawings of an input, (H, W, 3) uint8 RGB, all of one size.

    Args:
        source: the input.
        path: of the file to write; missing parent folders are created.

    Raises:
        OSError: naming the path.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_video:
            yield lambda drawing: _write_image(drawing, path)
            return
        with _video_writer(path, source.frame_rate) as write:
            yield write


def _write_image(drawing: np.ndarray, path: Path) -> None:
    kind = Image.registered_extensions()[path.suffix.lower()]
    with open_atomically(path) as file:
        Image.fromarray(drawing).save(file, format=kind)


@contextlib.contextmanager
def _video_writer(path: Path, frame_rate: float) -> Iterator[Write]:
    """Open an MPEG-4 video without sound, renamed to its final path when it is complete."""
    import cv2

    scratch = path.with_name(f".{path.name}.part.mp4")
    scratch.unlink(missing_ok=True)  # OpenCV would follow a link
    video = cv2.VideoWriter()

    def write(frame: np.ndarray) -> None:
        if not video.isOpened():
            height, width = frame.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            if not video.open(str(scratch), code, frame_rate, (width, height)):
                raise OSError("OpenCV can't open it or has no MPEG-4 encoder")
        video.write(np.ascontiguousarray(frame[:, :, ::-1]))

    try:
        yield write
        video.release()
        scratch.replace(path)
    finally:
        video.release()
        scratch.unlink(missing_ok=True)
