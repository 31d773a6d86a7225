"""Bilinear resizing with antialiasing, to the last bit that of PyTorch for 8-bit images.

Letters: H, W height and width of an image in pixels, C channels.
"""

import functools

import numpy as np

_MAX_WEIGHT = 1 << 15  # PyTorch multiplies in 16 bits
_MAX_PRECISION = 22
_BLOCK = 1 << 20  # values of the output that are computed at once, few enough for a cache


def size_of(image: np.ndarray) -> tuple[int, int]:
    """Height and width of an image (H, W, C)."""
    height, width = image.shape[:2]
    return height, width


def resized_shape(size: tuple[int, int], min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width of an image resized by its shorter side, as by Detectron2.

    Args:
        size: height and width.
        min_size: of the shorter side; 0 does not resize.
        max_size: that the longer side may have at most.
    """
    if min_size == 0:
        return size
    height, width = size
    scale = min_size / min(height, width)
    new_height, new_width = (
        (min_size, scale * width) if height < width else (scale * height, min_size)
    )
    if max(new_height, new_width) > max_size:
        shrink = max_size / max(new_height, new_width)
        new_height, new_width = new_height * shrink, new_width * shrink
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image (H, W, C) uint8 to another height and width."""
    if image.shape[1] != width:
        image = _resize_rows(image.swapaxes(0, 1), width).swapaxes(0, 1)
    return _resize_rows(image, height) if image.shape[0] != height else image


def _resize_rows(image: np.ndarray, size: int) -> np.ndarray:
    """Resize along the first axis, block by block."""
    starts, weights, precision = _filter(image.shape[0], size)
    output = np.empty((size, *image.shape[1:]), dtype=np.uint8)
    step = max(_BLOCK // max(image[0].size, 1), 1)
    for begin in range(0, size, step):
        rows = slice(begin, begin + step)
        total = np.full(output[rows].shape, 1 << (precision - 1), dtype=np.int32)
        for tap in range(weights.shape[1]):
            source = np.minimum(starts[rows] + tap, image.shape[0] - 1)  # of weight 0 beyond it
            total += image[source] * weights[rows, tap, None, None]
        output[rows] = (total >> precision).clip(0, 255)
    return output


@functools.lru_cache(maxsize=64)
def _filter(old: int, new: int) -> tuple[np.ndarray, np.ndarray, int]:
    """First cell that each new cell reads, its weights as integers, and their binary places.

    Source: PyTorch's ``interpolate`` with ``antialias=True``, which follows Pillow.
    """
    scale = old / new
    support = max(scale, 1.0)  # half the width of the triangle
    center = scale * (np.arange(new) + 0.5)
    start = np.maximum((center - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((center + support + 0.5).astype(np.int64), old)
    taps = start[:, None] + np.arange((stop - start).max())
    distance = abs(taps - center[:, None] + 0.5) / support
    weights = np.where(taps < stop[:, None], np.maximum(1 - distance, 0), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    precision = 0
    while precision < _MAX_PRECISION:
        if int(0.5 + weights.max() * (1 << (precision + 1))) >= _MAX_WEIGHT:
            break
        precision += 1
    return start, (weights * (1 << precision) + 0.5).astype(np.int32), precision
