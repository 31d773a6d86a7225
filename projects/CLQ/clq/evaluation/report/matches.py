"""Detections matched to objects as COCO does, in arrays.

Letters: N images, K classes, M objects, D detections, T = 10 IoU thresholds, S = 4 ranges of size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from hotcoco import mask

from .tables import (
    Detections,
    DetectionTable,
    ObjectTable,
    Truth,
    detection_table,
    object_table,
    rows_by_image,
)

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # (T,)
SIZES = ("all", "s", "m", "l")
_AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # COCO's, (S, 2)


@dataclass(frozen=True)
class Matches:
    """Detections of a test set, highest score first, matched to its objects as COCO does.

    Attributes:
        image: index of the image, (D,).
        label: index of the class, (D,).
        score: (D,).
        is_match: whether it finds an object at each threshold, (D, T).
        is_ignored: whether it counts neither as found nor as false, being in a crowd or of another
            size, (D, T).
        iou: with the object of its class that it overlaps most, 0 without any, (D,).
        num_objects: without crowds, (N, K).
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    is_match: np.ndarray
    is_ignored: np.ndarray
    iou: np.ndarray
    num_objects: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Matches":
        """Some of the detections; the objects stay all."""
        columns = ("image", "label", "score", "is_match", "is_ignored", "iou")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@dataclass(frozen=True)
class MatchedRun:
    """Ground truth and detections of a run, and which of them belong together.

    Attributes:
        objects: of the ground truth, M.
        detections: within the limit of an image and class, D.
        by_size: matches to objects of each of `SIZES`. Those of "all" have the rows of
            ``detections``; of the others those are left out that never count.
        found: index of the object that a detection finds at IoU 0.5, a crowd included; -1 if none,
            (D,).
    """

    objects: ObjectTable
    detections: DetectionTable
    by_size: Mapping[str, Matches]
    found: np.ndarray

    @property
    def matches(self) -> Matches:
        """Matches to objects of all sizes."""
        return self.by_size["all"]


def match_run(truth: Truth, detections: Detections, *, max_detections: int = 100) -> MatchedRun:
    """Match detections to the ground truth.

    Args:
        truth: COCO json; classes are indexed by ascending category id, images in the json's order.
            An annotation may lack "area" (then width * height) and "iscrowd" (then 0).
        detections: COCO results, boxes as (x, y, w, h) in pixels.
        max_detections: of an image and class that count, the best by score.
    """
    objects = object_table(truth)
    table = detection_table(truth, detections, max_detections)
    is_ignored_object = _is_outside(objects.area) | objects.is_crowd[:, None]  # (M, S)
    found, iou = _find_objects(table, objects, is_ignored_object, len(truth["images"]))
    is_outside = _is_outside(table.box[:, 2] * table.box[:, 3])  # (D, S)
    num_objects = np.zeros((len(SIZES), len(truth["images"]), len(truth["categories"])), dtype=int)
    by_size = {}
    for s, size in enumerate(SIZES):
        counted = objects[~is_ignored_object[:, s]]
        np.add.at(num_objects[s], (counted.image, counted.label), 1)
        is_found = found[..., s] >= 0  # (D, T)
        is_ignored = np.repeat(is_outside[:, [s]], len(IOU_THRESHOLDS), axis=1)
        is_ignored[is_found] = is_ignored_object[found[..., s][is_found], s]
        matches = Matches(
            image=table.image,
            label=table.label,
            score=table.score,
            is_match=is_found & ~is_ignored,
            is_ignored=is_ignored,
            iou=iou,
            num_objects=num_objects[s],
        )
        by_size[size] = (
            matches if size == "all" else matches[np.flatnonzero(~is_ignored.all(axis=1))]
        )
    return MatchedRun(objects, table, by_size, found[:, 0, 0])


def match_detections(truth: Truth, detections: Detections) -> Matches:
    """Match detections to objects of all sizes, at most 100 of an image and class."""
    return match_run(truth, detections).matches


def _is_outside(areas: np.ndarray) -> np.ndarray:
    """Tell whether areas (D,) lie outside of each range of size, (D, S)."""
    return (areas[:, None] < _AREAS[:, 0]) | (areas[:, None] > _AREAS[:, 1])


def _find_objects(
    table: DetectionTable, objects: ObjectTable, is_ignored: np.ndarray, num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Index of the object that each detection finds, or -1, (D, T, S), and its best IoU, (D,)."""
    found = np.full((len(table), len(IOU_THRESHOLDS), len(SIZES)), -1, dtype=np.int32)
    iou = np.zeros(len(table))
    images = zip(rows_by_image(table, num_images), rows_by_image(objects, num_images))
    for rows, members in images:
        if not len(rows) or not len(members):
            continue
        is_crowd = objects.is_crowd[members]
        overlap = mask.iou(table.box[rows], objects.box[members], is_crowd)
        overlap[table.label[rows, None] != objects.label[members]] = 0
        iou[rows] = (overlap * ~is_crowd).max(axis=1)
        chosen = _match_image(overlap, is_crowd, is_ignored[members])
        found[rows] = np.where(chosen < 0, -1, members[chosen])
    return found, iou


def _match_image(overlap: np.ndarray, is_crowd: np.ndarray, is_ignored: np.ndarray) -> np.ndarray:
    """Match the detections of an image, best first, each to the object that it overlaps most.

    An object is found once, a crowd any number of times. An ignored object is taken only by a
    detection that no other object is left for. Of equal overlaps the last counts, as in COCO.

    Args:
        overlap: IoU of detections and objects of the same class, else 0, (D, M).
        is_crowd: (M,).
        is_ignored: (M, S).

    Returns:
        Index of an object, or -1, (D, T, S).
    """
    chosen = np.full((len(overlap), len(IOU_THRESHOLDS), len(SIZES)), -1)
    free = np.ones((overlap.shape[1], *chosen.shape[1:]), dtype=bool)  # (M, T, S)
    for d in np.flatnonzero((overlap >= IOU_THRESHOLDS[0]).any(axis=1)):
        near = np.flatnonzero(overlap[d] >= IOU_THRESHOLDS[0])[::-1]  # (C,), the last first
        iou = overlap[d, near, None, None]
        fits = free[near] & (iou >= IOU_THRESHOLDS[:, None])  # (C, T, S)
        counted = fits & ~is_ignored[near, None]
        fits = np.where(counted.any(axis=0), counted, fits)
        best = near[np.where(fits, iou, -1).argmax(axis=0)]  # (T, S)
        chosen[d] = np.where(fits.any(axis=0), best, -1)
        t, s = np.nonzero(chosen[d] >= 0)
        taken = chosen[d, t, s]
        free[taken, t, s] = is_crowd[taken]
    return chosen
