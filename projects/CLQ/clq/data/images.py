"""Read images: the one way from a file, a PIL image or an array to pixels.

Letters: H, W height and width of an image in pixels.
"""

import os
import struct
import zlib
from typing import BinaryIO

import numpy as np
from detectron2.data import detection_utils
from PIL import Image, ImageOps

NO_FILE = "it is a FIFO, a socket, a device or a folder"
ImageSource = str | os.PathLike[str] | BinaryIO | Image.Image | np.ndarray

# Raised by Pillow for a file that is missing, truncated, damaged or not an image, and by Detectron2
# for an image whose size differs from the json.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(source: ImageSource, channels: str = "BGR") -> np.ndarray:
    """Read an image, upright as its EXIF orientation says.

    Grey, palette and transparent images become three channels of 8 bits.

    Args:
        source: path, file object, PIL image, or (H, W, 3) uint8 array in RGB order.
        channels: order of the result's channels, ``"BGR"`` or ``"RGB"``.

    Returns:
        (H, W, 3) uint8; of an array a view.

    Raises:
        READ_ERRORS: the file can't be decoded, or the array has another shape or type.
        TypeError: ``source`` is none of the above.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise ValueError(
                "an image array must be (height, width, 3) uint8 in RGB order, not "
                f"{source.shape} {source.dtype}"
            )
        return source[:, :, ::-1] if channels == "BGR" else source
    if isinstance(source, (str, os.PathLike)):
        if os.path.exists(source) and not os.path.isfile(source):  # a FIFO would be waited for
            raise OSError(NO_FILE)
        return detection_utils.read_image(os.fspath(source), channels)
    if not isinstance(source, Image.Image):
        if not hasattr(source, "read"):
            kind = type(source).__name__
            raise TypeError(f"an image must be a path, file object, PIL image or array, not {kind}")
        source = Image.open(source)
    return detection_utils.convert_PIL_to_numpy(ImageOps.exif_transpose(source), channels)


def reason_of(error: BaseException) -> str:
    """Describe an error of :data:`READ_ERRORS` in one line, without the file's name."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image"
    if isinstance(error, MemoryError):
        return "the memory does not suffice for it"
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")
