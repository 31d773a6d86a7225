"""Lines of YOLO label files: a class index, then a box or a polygon in fractions of the image."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from .content import LabeledObject

# Half a unit in the last place of float32 below 1: many tools compute fractions in it.
_FLOAT32_ERROR = 2.0**-25
_MIN_FIXED = 3  # decimals; fewer are taken for a short exact number such as 0.5
_MIN_OTHER = 6  # digits that a tool keeps if it drops zeros at the end, as C's %g does

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)


class LabelFile(NamedTuple):
    """Objects of a label file, and what is wrong with other lines: number and predicate."""

    objects: list[LabeledObject]
    problems: list[tuple[int, str]]


class LabelLine(NamedTuple):
    """A line with valid numbers.

    Attributes:
        class_index: among the class names.
        fractions: center x, center y, width and height of a box; or x and y of each vertex of a
            polygon.
        texts: the fractions as written.
    """

    class_index: int
    fractions: list[float]
    texts: Sequence[str]


def parse_labels(
    lines: Sequence[str], size: tuple[int, int], num_classes: int, *, has_keypoints: bool = False
) -> LabelFile:
    """Parse the lines of a label file.

    A polygon becomes its bounding box. A box edge that equals a whole pixel within the rounding
    error of the text is that pixel, so that boxes of whole pixels survive their form as fractions.

    Args:
        lines: of the file; empty ones are passed over.
        size: width and height of the upright image in pixels.
        num_classes: class indices lie below.
        has_keypoints: numbers behind the box are keypoints, which are not read.
    """
    parsed: list[LabelLine] = []
    problems = []
    for number, line in enumerate(lines, start=1):
        try:
            parsed += [_parse_line(line.split(), num_classes, has_keypoints)] if line else []
        except ValueError as error:
            problems.append((number, str(error)))
    rounding = text_error([text for line in parsed for text in line.texts])
    return LabelFile([_to_object(line, size, rounding) for line in parsed], problems)


def text_error(texts: Sequence[str]) -> float:
    """Return the rounding error of fractions that one tool has written.

    Args:
        texts: of the fractions. Where all have as many decimal places, that is the format; else
            zeros at the end were dropped, and the number of most significant digits counts.
    """
    if not texts:
        return 0.0
    digits = [text.lower().partition("e") for text in texts]
    decimals = {len(d.partition(".")[2]) - int(exponent or 0) for d, _, exponent in digits}
    finest = max(decimals)
    if len(decimals) > 1 or finest < _MIN_FIXED:
        significant = (len(d.replace(".", "").lstrip("+-0")) for d, _, _ in digits)
        finest = max(_MIN_OTHER, *significant)
    return max(0.5 * 10.0**-finest, _FLOAT32_ERROR)


def _parse_line(texts: Sequence[str], num_classes: int, has_keypoints: bool) -> LabelLine:
    """
    Raises:
        ValueError: with the predicate of a sentence about the line.
    """
    wrong = [text for text in texts if not _NUMBER.fullmatch(text)]
    if wrong:
        raise ValueError(f"has {wrong[0][:80]!r}, which is no number")
    is_polygon = len(texts) >= 7 and len(texts) % 2 == 1
    if has_keypoints and len(texts) > 5:
        texts = texts[:5]
    elif len(texts) != 5 and not is_polygon:
        raise ValueError(
            f"has {len(texts)} numbers instead of 5, which are the class and the box, or the class "
            "and 3 or more points of a polygon"
        )
    index = float(texts[0])
    if not (index.is_integer() and 0 <= index < num_classes):
        raise ValueError(
            f"has the class {texts[0][:80]}, but the {num_classes} names are those of 0 to "
            f"{num_classes - 1}"
        )
    fractions = [float(text) for text in texts[1:]]
    outside = [text for text, value in zip(texts[1:], fractions) if not 0 <= value <= 1]
    if outside:
        raise ValueError(f"has {outside[0][:80]}, which is no fraction of the image from 0 to 1")
    return LabelLine(int(index), fractions, texts[1:])


def _to_object(line: LabelLine, size: tuple[int, int], rounding: float) -> LabeledObject:
    values = line.fractions
    if len(values) == 4:
        centers, sides = values[:2], values[2:]
        starts = [center - side / 2 for center, side in zip(centers, sides)]
        ends = [center + side / 2 for center, side in zip(centers, sides)]
        rounding *= 1.5  # that of the center and half that of the side
    else:
        starts, ends = ([pick(values[axis::2]) for axis in (0, 1)] for pick in (min, max))
    x0, y0, x1, y1 = (
        _snap(fraction * length, rounding * length)
        for fraction, length in zip([*starts, *ends], [*size, *size])
    )
    return LabeledObject(line.class_index, (x0, y0, x1, y1))


def _snap(value: float, tolerance: float) -> float:
    """Return the nearest whole number if it is as near as that."""
    nearest = math.floor(value + 0.5)
    return float(nearest) if abs(value - nearest) <= tolerance * (1 + 1e-9) else value
