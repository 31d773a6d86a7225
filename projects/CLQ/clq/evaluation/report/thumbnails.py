"""Thumbnails for the report: an image, or a part of it, with boxes.

Ground truth is drawn thin and in one colour, detections in another, and the box that a thumbnail
is about thick, so that they are told apart without colours too.

Letters: H, W height and width of an image in pixels.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...runtime.images import READ_ERRORS, read_image

TRUTH, FOUND, SUBJECT = "#00C2FF", "#FFD400", "#FF3DB5"
_MARGIN = 1.5  # of a crop around its box, in sides of the box
_MIN_CROP = 96  # pixels
_JPEG_QUALITY = 82

Box = Sequence[float]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Marks:
    """Boxes to draw.

    Attributes:
        truth: of objects.
        found: of detections.
        subject: what the thumbnail is about.
    """

    truth: Sequence[Box] = ()
    found: Sequence[Box] = ()
    subject: Sequence[Box] = ()


@dataclass(frozen=True)
class Thumbnail:
    """An image inside the page.

    Attributes:
        src: data URI.
        width: in pixels.
        height: in pixels.
    """

    src: str
    width: int
    height: int


class ThumbnailMaker:
    """Draws images of one data set."""

    def __init__(self, image_root: Path, *, bit_depth: int = 8) -> None:
        """
        Args:
            image_root: folder that file names start from.
            bit_depth: ``INPUT.BIT_DEPTH``.
        """
        self._root = image_root
        self._bit_depth = bit_depth
        self._read = lru_cache(maxsize=4)(self._read_uncached)

    def whole(self, file_name: str, marks: Marks, *, side: int = 520) -> Thumbnail | None:
        """Draw an image whose longer side becomes at most ``side`` pixels; None if unreadable."""
        image = self._read(file_name)
        if image is None:
            return None
        height, width = image.shape[:2]
        return _draw(image, (0, 0, width, height), marks, side)

    def crop(self, file_name: str, marks: Marks, *, side: int = 260) -> Thumbnail | None:
        """Draw the surroundings of the subject's boxes, scaled to at most ``side`` pixels."""
        image = self._read(file_name)
        if image is None:
            return None
        return _draw(image, _surroundings(marks.subject, image.shape[:2]), marks, side)

    def _read_uncached(self, file_name: str) -> np.ndarray | None:
        try:
            return read_image(self._root / file_name, "RGB", bit_depth=self._bit_depth)
        except READ_ERRORS:
            return None


def as_thumbnail(image: Image.Image) -> Thumbnail:
    """Encode an image as a data URI of JPEG."""
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
    text = base64.b64encode(out.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{text}", *image.size)


def _surroundings(boxes: Sequence[Box], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a square around boxes, moved inside the image; x, y, width, height in pixels."""
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], dtype=float)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    limits = np.array(size[::-1])
    side = max((high - low).max() * (1 + 2 * _MARGIN), _MIN_CROP)
    sides = np.minimum(side, limits)
    start = np.clip((low + high) / 2 - sides / 2, 0, limits - sides)
    x, y = np.floor(start).astype(int)
    width, height = np.ceil(sides).astype(int)
    return int(x), int(y), int(width), int(height)


def _draw(
    image: np.ndarray, window: tuple[int, int, int, int], marks: Marks, side: int
) -> Thumbnail:
    """Draw marks on a window of an image, (H, W, 3) uint8 RGB."""
    x, y, width, height = window
    part = Image.fromarray(np.ascontiguousarray(image[y : y + height, x : x + width]))
    scale = side / max(part.size)
    size = max(round(part.width * scale), 1), max(round(part.height * scale), 1)
    part = part.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(part)
    for boxes, color, line in (
        (marks.truth, TRUTH, 2),
        (marks.found, FOUND, 2),
        (marks.subject, SUBJECT, 4),
    ):
        for left, top, w, h in boxes:
            corners = [(left - x) * scale, (top - y) * scale]
            corners += [corners[0] + max(w * scale, 1), corners[1] + max(h * scale, 1)]
            draw.rectangle(corners, outline=color, width=line)
    return as_thumbnail(part)
