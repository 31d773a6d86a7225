"""Read images: the one way from a file, a PIL image or an array to pixels.

Letters: H, W height and width of an image in pixels.
"""

import os
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image

DEPTH_UNKNOWN = (
    "it has more than 8 bits per channel; train with INPUT.BIT_DEPTH set to the number of bits "
    "that its values use, see the note on bit depth in docs/own-data.md"
)
# Pillow's modes of more than 8 bits per channel.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

# What turns an image upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Files of a folder that are images.
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
NO_FILE = "it is a FIFO, a socket, a device or a folder"
ImageSource = str | os.PathLike[str] | BinaryIO | Image.Image | np.ndarray

# Raised by Pillow for a file that is missing, truncated, damaged or not an image, and by Detectron2
# for an image whose size differs from the annotations'.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,  # of a forged header
    EOFError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(source: ImageSource, channels: str = "BGR", *, bit_depth: int = 8) -> np.ndarray:
    """Read an image, upright as its EXIF orientation says.

    Grey, palette and transparent images become three channels of 8 bits. Where a file has more
    than 8 bits per channel, or floats, its values v become 255 v / (2**bit_depth - 1), rounded;
    1 bit is for floats from 0 to 1.

    Args:
        source: path, file object, PIL image, or (H, W, 3) uint8 array in RGB order.
        channels: order of the result's channels, ``"BGR"`` or ``"RGB"``.
        bit_depth: ``INPUT.BIT_DEPTH``; with 8, files of more bits are refused.

    Returns:
        (H, W, 3) uint8; of an array a view.

    Raises:
        READ_ERRORS: the file can't be decoded, has values beyond the bit depth, or the array has
            another shape or type.
        TypeError: ``source`` is none of the above.
    """
    if isinstance(source, np.ndarray):
        check_array(source, "RGB")
        return source[:, :, ::-1] if channels == "BGR" else source
    if isinstance(source, (str, os.PathLike)):
        path = _local_path(os.fspath(source))
        if os.path.exists(path) and not os.path.isfile(path):  # a FIFO would be waited for
            raise OSError(NO_FILE)
        with Image.open(path) as image:
            return _to_array(image, channels, bit_depth)
    if not isinstance(source, Image.Image):
        if not hasattr(source, "read"):
            kind = type(source).__name__
            raise TypeError(f"an image must be a path, file object, PIL image or array, not {kind}")
        source = Image.open(source)
    return _to_array(source, channels, bit_depth)


def _local_path(path: str) -> str:
    """Path of a file, or of the local copy of an address that Detectron2 knows."""
    if "://" not in path or os.path.exists(path):
        return path
    from detectron2.utils.file_io import PathManager

    return PathManager.get_local_path(path)


def allow_any_size() -> None:
    """Lift Pillow's limit on the pixels of an image in this process, for images to be tiled."""
    Image.MAX_IMAGE_PIXELS = None


def check_array(image: object, order: str) -> None:
    """Check that an image in memory is one that the detector takes.

    Args:
        image: of any type.
        order: of its channels, for the message.

    Raises:
        ValueError: it is not a (H, W, 3) array of uint8.
    """
    found = type(image).__name__
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
            return
        found = f"{image.shape} {image.dtype}"
    raise ValueError(
        f"an image array must be (height, width, 3) uint8 in {order} order, not {found}"
    )


def is_deep(image: Image.Image) -> bool:
    """Tell from an image's header whether its channels have more than 8 bits."""
    return image.mode in _DEEP_MODES or _has_deep_colors(image)


def check_depth(image: Image.Image, bit_depth: int) -> None:
    """
    Raises:
        ValueError: the image has more than 8 bits, and nothing says how many of them it uses.
    """
    if bit_depth == 8 and is_deep(image):
        raise ValueError(DEPTH_UNKNOWN)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an image when it is upright, without decoding its pixels."""
    width, height = image.size
    tags: Any = getattr(image, "tag_v2", None)  # of TIFF, whose size some versions turn at once
    if tags:
        width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
    return (height, width) if _orientation_of(image) >= 5 else (width, height)


def turn_upright(image: Image.Image) -> Image.Image:
    """Decode an image and turn it as its EXIF orientation says."""
    image.load()  # which turns a TIFF upright, and drops its orientation
    return _turn(image, _orientation_of(image))


def _orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, from 1 to 8; 1 where it is missing or damaged."""
    try:
        # The base class's method, since that of PNG decodes all pixels.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except READ_ERRORS:
        return 1
    return value if value in _UPRIGHT else 1


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_array(image: Image.Image, channels: str, bit_depth: int) -> np.ndarray:
    """Convert an image to (H, W, 3) uint8."""
    check_depth(image, bit_depth)
    if not is_deep(image):
        return _pixels(turn_upright(image), channels)
    values = _decode_deep_colors(image) if _has_deep_colors(image) else np.asarray(image)
    orientation = _orientation_of(image)
    highest = 2**bit_depth - 1
    low, high = values.min(), values.max()
    is_too_dark = values.dtype.kind == "f" and 0 < high <= 1 < bit_depth
    if is_too_dark or not (low >= 0 and high <= highest):  # NaN is neither
        raise ValueError(
            f"it has values from {low:g} to {high:g}, but INPUT.BIT_DEPTH {bit_depth} stands for "
            f"0 to {highest}"
        )
    scaled = Image.fromarray(np.rint(values * (255.0 / highest)).astype(np.uint8))
    return _pixels(_turn(scaled, orientation), channels)


def _pixels(image: Image.Image, channels: str) -> np.ndarray:
    """Pixels in three channels, without a copy where the image has them."""
    if image.mode == "P" and "transparency" in image.info:  # of which Pillow would warn
        image = image.convert("RGBA")
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return pixels[:, :, ::-1] if channels == "BGR" else pixels


def _has_deep_colors(image: Image.Image) -> bool:
    """Tell whether a file has colours of 16 bits, of which Pillow keeps the higher 8."""
    tiles = getattr(image, "tile", None) or [()]
    return image.mode in ("RGB", "RGBA", "LA") and ";16" in str(tiles[0])


def _decode_deep_colors(image: Image.Image) -> np.ndarray:
    """Decode a file of 16-bit colours as (H, W, 3) uint16 RGB, without alpha."""
    try:
        import cv2
    except ImportError:
        raise ValueError("its colours of 16 bits need opencv-python-headless") from None
    file: Any = image.fp  # type: ignore[attr-defined]
    file.seek(0)
    content = np.frombuffer(file.read(), dtype=np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(content, flags)
    if pixels is None:
        raise ValueError("its colours of 16 bits can't be decoded")
    return pixels[:, :, ::-1]


def reason_of(error: BaseException) -> str:
    """Describe an error of :data:`READ_ERRORS` in one line, without the file's name."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image"
    if isinstance(error, Image.DecompressionBombError):
        return "it has too many pixels to be read in one piece; --tile N takes images of any size"
    if isinstance(error, MemoryError):
        return "the memory does not suffice for it"
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")
