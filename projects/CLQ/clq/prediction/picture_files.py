"""Files of pictures: one image, or a video written frame by frame.

Letters: H, W height and width of a picture in pixels.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .inputs import IMAGE_SUFFIXES, Source

if TYPE_CHECKING:
    import cv2


Write = Callable[[np.ndarray], None]


def picture_name(source: Source) -> str:
    """The name of an input's picture, its own where that tells a format that can be written."""
    if source.is_video:
        return source.name if source.name.lower().endswith(".mp4") else f"{source.name}.mp4"
    is_known = source.path.suffix.lower() in IMAGE_SUFFIXES
    return source.name if is_known else f"{source.name}.png"


@contextlib.contextmanager
def picture_writer(source: Source, path: Path) -> Iterator[Write]:
    """Open a writer for the pictures of an input, (H, W, 3) uint8 with red first.

    Args:
        source: whose pictures they are.
        path: of the file to write, missing parent folders are made.

    Raises:
        OSError: naming the path.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_video:
            yield lambda picture: Image.fromarray(picture).save(path)
            return
        with VideoFile(path, source.frame_rate) as video:
            yield video.write
    except OSError as error:
        raise OSError(f"{path} can't be written ({error.strerror or error}).") from error


class VideoFile:
    """A video in MPEG-4 that gets its name when it is complete; sound is not part of it."""

    def __init__(self, path: Path, frame_rate: float) -> None:
        """
        Args:
            path: ends in ``.mp4``; a file of that name is replaced.
            frame_rate: frames a second.
        """
        self._path = path
        self._scratch = path.with_name(f".{path.name}.part.mp4")
        self._frame_rate = frame_rate
        self._writer: "cv2.VideoWriter | None" = None

    def __enter__(self) -> "VideoFile":
        return self

    def write(self, picture: np.ndarray) -> None:
        """Append a picture.

        Args:
            picture: (H, W, 3) uint8, red first; all of one size.

        Raises:
            OSError: the file can't be opened.
        """
        if self._writer is None:
            import cv2

            height, width = picture.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            size = (width, height)
            self._writer = cv2.VideoWriter(str(self._scratch), code, self._frame_rate, size)
            if not self._writer.isOpened():
                raise OSError("OpenCV can't open it or has no MPEG-4 encoder")
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        if error is None and self._scratch.exists():
            self._scratch.replace(self._path)
        else:
            self._scratch.unlink(missing_ok=True)
