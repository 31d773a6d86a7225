"""Value checks for COCO json fields."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

INTEGER_LIMIT = 2**63  # PyTorch and the evaluation read 64 bits
_BOX_LIMIT = 2**62  # so that x + width fits too
_SIZE_LIMIT = 2**31
_COUNT_LIMIT = 2**32
_NUMBERS = {int, float}  # a bool is none
_NO_BOX = [math.nan] * 4


def are_ids(values: Sequence[object], lowest: int = 0) -> np.ndarray:
    """Find the values that are integers >= ``lowest`` and fit 64 bits, bool (len(values),)."""
    return np.fromiter(
        (type(value) is int and lowest <= value < INTEGER_LIMIT for value in values),
        bool,
        len(values),
    )


def is_text(value: object) -> bool:
    """Tell whether a text can be written to a file: no half of a surrogate pair in it."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_size(size: tuple[object, object]) -> bool:
    """Tell whether width and height are integers an image can have."""
    return all(type(side) is int and 0 < side < _SIZE_LIMIT for side in size)


def box_array(values: Sequence[object]) -> np.ndarray:
    """Boxes of 4 numbers as float64 (len(values), 4), NaN where a value is none.

    A number too large for 64 bits counts as infinite.
    """
    rows = [value if _are_numbers(value) and len(value) == 4 else _NO_BOX for value in values]
    try:
        boxes = np.array(rows, dtype=np.float64)
    except OverflowError:  # an integer beyond all floats
        boxes = np.array([[v if abs(v) < _BOX_LIMIT else math.nan for v in row] for row in rows])
    boxes = boxes.reshape(-1, 4)
    boxes[~(np.abs(boxes) < _BOX_LIMIT).all(axis=1)] = math.nan
    return boxes


def lacks_polygon(segmentation: object) -> bool:
    """Tell whether Detectron2's loader leaves an object out for its segmentation.

    It does so where there are polygons, but none of three points or more.
    """
    return (
        isinstance(segmentation, list)
        and len(segmentation) > 0
        and not any(_is_polygon(part) for part in segmentation)
    )


class Rule(NamedTuple):
    """Rule for the values of a key.

    Attributes:
        allows: whether a value is allowed.
        instead: what is, in words.
    """

    allows: Callable[[Any], bool]
    instead: str


def _is_area(value: object) -> bool:
    return value is None or (_is_number(value) and 0 <= value < math.inf)


def _is_segmentation(value: object) -> bool:
    """Tell whether Detectron2 can read it: polygons, a run-length encoding, or nothing."""
    if isinstance(value, list):
        return all(map(_are_numbers, value))
    if not isinstance(value, dict):
        return value is None
    counts, size = value.get("counts"), value.get("size")
    is_encoded = isinstance(counts, str) or _are_counts(counts)
    return not value or (is_encoded and _are_counts(size) and len(size) == 2)


# Keys that an annotation may lack, but not hold anything in.
OPTIONAL_KEYS = {
    "iscrowd": Rule(lambda value: value in (0, 1), "instead of 0 or 1"),
    "area": Rule(_is_area, "instead of a number of 0 or more"),
    "segmentation": Rule(_is_segmentation, "instead of polygons or a run-length encoding"),
    "keypoints": Rule(
        lambda value: value is None or _are_numbers(value), "instead of a list of numbers"
    ),
}


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in _NUMBERS


def _are_numbers(value: object) -> TypeGuard[list[float]]:
    return isinstance(value, list) and _NUMBERS.issuperset(map(type, value))


def _are_counts(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list):
        return False
    return all(type(count) is int and 0 <= count < _COUNT_LIMIT for count in value)


def _is_polygon(part: object) -> bool:
    return isinstance(part, list) and len(part) % 2 == 0 and len(part) >= 6
