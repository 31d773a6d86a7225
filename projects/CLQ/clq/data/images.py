"""Errors of reading an image file."""

import struct
import zlib

from PIL import Image

# What Pillow raises for a file that is missing, cut short, damaged or no image, and Detectron2 for
# one whose size is not that of the json.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def reason_of(error: BaseException) -> str:
    """Word an error of :data:`READ_ERRORS` in one line, without the file's name.

    Args:
        error: that reading raised.
    """
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image"
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")
