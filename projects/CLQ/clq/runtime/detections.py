"""Detections of an image as arrays, and NMS in NumPy.

Letters: P detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

# Above so many boxes torchvision compares those of one class alone; below, it moves classes apart.
_MANY_BOXES = 1000

T = TypeVar("T", bound="ImageDetections")


@dataclass(frozen=True)
class ImageDetections:
    """Detections of an image.

    Attributes:
        image_size: height and width in pixels, at which the boxes are.
        boxes: (P, 4) fp32, xyxy in pixels.
        scores: (P,) fp32.
        classes: (P,) int64.
    """

    image_size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def cat(cls: type[T], parts: Sequence[T]) -> T:
        """Concatenate detections of one image, at least one part."""
        columns = zip(*(part._columns() for part in parts))
        return cls(parts[0].image_size, *map(np.concatenate, columns))

    def select(self: T, rows: np.ndarray) -> T:
        """Take detections by index or mask."""
        return type(self)(self.image_size, *(column[rows] for column in self._columns()))

    def _columns(self) -> list[np.ndarray]:
        """Values of each detection, which are all fields but the first, of subclasses too."""
        return [getattr(self, column.name) for column in fields(self)[1:]]

    def mirrored(self) -> "ImageDetections":
        """Move the boxes to the image mirrored left to right."""
        x0, y0, x1, y1 = self.boxes.T
        width = self.image_size[1]
        boxes = np.stack((width - x1, y0, width - x0, y1), axis=1)
        return ImageDetections(self.image_size, boxes, self.scores, self.classes)

    def scaled(self, size: tuple[int, int]) -> "ImageDetections":
        """Move the boxes to the image resized to that height and width."""
        if size == self.image_size:
            return self
        (height, width), boxes = self.image_size, self.boxes.copy()
        boxes[:, 0::2] *= size[1] / width
        boxes[:, 1::2] *= size[0] / height
        return ImageDetections(size, boxes, self.scores, self.classes)

    def clipped(self) -> "ImageDetections":
        """Clip boxes to the image.

        Raises:
            FloatingPointError: a box is not finite.
        """
        if not np.isfinite(self.boxes).all():
            raise FloatingPointError("the detector gives boxes that are not finite")
        height, width = self.image_size
        boxes = self.boxes.clip(0, np.array([width, height, width, height], self.boxes.dtype))
        return ImageDetections(self.image_size, boxes, self.scores, self.classes)

    def at_size(self, size: tuple[int, int]) -> "ImageDetections":
        """Rescale, clip, and drop empty boxes, as Detectron2's ``detector_postprocess``."""
        found = self.scaled(size).clipped()
        is_empty = (found.boxes[:, 2:] <= found.boxes[:, :2]).any(axis=1)
        return found.select(np.flatnonzero(~is_empty))


def suppress(
    candidates: ImageDetections, iou_threshold: float, max_detections: int
) -> ImageDetections:
    """Suppress boxes by better ones of the same class that overlap them.

    Decides as torchvision's ``batched_nms`` on CPU, roundings of fp32 included.

    Args:
        candidates: of an image.
        iou_threshold: IoU above which a box is suppressed.
        max_detections: to keep.

    Returns:
        What is kept, best first.
    """
    found = candidates.select(np.argsort(-candidates.scores, kind="stable"))
    boxes, is_many = found.boxes, len(found) > _MANY_BOXES
    if not is_many and len(found):
        shifts = found.classes.astype(boxes.dtype) * (boxes.max() + boxes.dtype.type(1))
        boxes = boxes + shifts[:, None]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    is_left, kept = np.ones(len(found), dtype=bool), []
    for i in range(len(found)):
        if not is_left[i]:
            continue
        kept.append(i)
        if len(kept) == max_detections:
            break
        later = i + 1 + np.flatnonzero(is_left[i + 1 :])
        if is_many:
            later = later[found.classes[later] == found.classes[i]]
        common = common_area(boxes[i], boxes[later])
        with np.errstate(invalid="ignore"):  # two empty boxes do not overlap
            is_left[later[common / (areas[i] + areas[later] - common) > iou_threshold]] = False
    return found.select(np.array(kept, dtype=np.int64))


def vote(
    kept: ImageDetections, candidates: ImageDetections, iou_threshold: float
) -> ImageDetections:
    """Average each detection with the candidates that overlap it, weighted by score.

    Source: box voting, arXiv 1505.01749.

    Args:
        kept: P detections.
        candidates: those that are kept among them.
        iou_threshold: IoU above which a candidate of the same class counts.
    """
    boxes = kept.boxes.copy()
    areas = (candidates.boxes[:, 2:] - candidates.boxes[:, :2]).prod(axis=1)
    for i, box in enumerate(kept.boxes):
        common = common_area(box, candidates.boxes)
        area = (box[2:] - box[:2]).prod()
        counts = (common > iou_threshold * (area + areas - common)) & (common > 0)
        weights = candidates.scores * (counts & (candidates.classes == kept.classes[i]))
        if weights.any():  # not of a box without area
            boxes[i] = weights @ candidates.boxes / weights.sum()
    return ImageDetections(kept.image_size, boxes, kept.scores, kept.classes)


def common_area(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Area in square pixels that a box (4,), or each of boxes (Q, 4), shares with others (Q, 4)."""
    sizes = np.minimum(one[..., 2:], other[:, 2:]) - np.maximum(one[..., :2], other[:, :2])
    return sizes.clip(min=0).prod(axis=1)
