"""The detections of one run as its accuracy needs them: score, class, image, and what they match.

These few numbers stay with the results, so that every interval and curve can be computed again
without the photographs. Letters: D detections, N images, K classes, T = 10 IoU thresholds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou

from clq.evaluation.coco_evaluation import run_coco_eval
from clq.utils.atomic_write import open_atomically

IOU_THRESHOLDS = np.arange(0.5, 1.0, 0.05).round(2)  # (T,)
_RECALL_POINTS = np.linspace(0, 1, 101)

Truth = Mapping[str, Any]
Detections = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Matches:
    """Detections of a test set, highest score first, matched to its objects as COCO does.

    Attributes:
        image: index of the image, (D,).
        label: index of the class, (D,).
        score: (D,).
        is_match: whether it finds an object at each threshold, (D, T).
        is_ignored: whether it counts neither as found nor as false, being in a crowd, (D, T).
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


def match_detections(truth: Truth, detections: Detections) -> Matches:
    """Match detections to the ground truth by hotcoco.

    Args:
        truth: COCO json; classes are indexed by rising category id, images in the json's order.
        detections: COCO results, boxes as (x, y, w, h) in pixels, at most 100 an image.
    """
    images = {image["id"]: i for i, image in enumerate(truth["images"])}
    labels = {id_: k for k, id_ in enumerate(sorted(c["id"] for c in truth["categories"]))}
    is_match = np.zeros((len(detections), len(IOU_THRESHOLDS)), dtype=bool)
    is_ignored = np.zeros_like(is_match)
    for entry in filter(None, run_coco_eval(truth, detections).evalImgs):
        if tuple(entry["aRng"]) == (0, 1e10):  # of all sizes
            rows = np.array(entry["dtIds"], dtype=int) - 1
            shape = len(IOU_THRESHOLDS), len(rows)
            is_match[rows] = np.array(entry["dtMatches"]).reshape(shape).T > 0
            is_ignored[rows] = np.array(entry["dtIgnore"], dtype=bool).reshape(shape).T
    num_objects = np.zeros((len(images), len(labels)), dtype=np.uint16)
    for annotation in truth["annotations"]:
        if not annotation.get("iscrowd"):
            num_objects[images[annotation["image_id"]], labels[annotation["category_id"]]] += 1
    found = Matches(
        image=np.array([images[d["image_id"]] for d in detections], dtype=np.uint32),
        label=np.array([labels[d["category_id"]] for d in detections], dtype=np.uint16),
        score=np.array([d["score"] for d in detections]),
        is_match=is_match & ~is_ignored,
        is_ignored=is_ignored,
        iou=best_ious(truth, detections).astype(np.float16),
        num_objects=num_objects,
    )
    found = found[np.argsort(-found.score, kind="stable")]
    return replace(found, score=found.score.astype(np.float16))


def best_ious(truth: Truth, detections: Detections) -> np.ndarray:
    """IoU of each detection with the object of its class that it overlaps most, (D,).

    Crowds are no objects; 0 where the image has no object of the class.
    """
    objects, found = defaultdict(list), defaultdict(list)
    for annotation in truth["annotations"]:
        if not annotation.get("iscrowd"):
            key = annotation["image_id"], annotation["category_id"]
            objects[key].append(annotation["bbox"])
    for row, detection in enumerate(detections):
        found[detection["image_id"], detection["category_id"]].append(row)
    ious = np.zeros(len(detections))
    for key in found.keys() & objects.keys():
        boxes = [_boxes(detections[row]["bbox"] for row in found[key]), _boxes(objects[key])]
        ious[found[key]] = pairwise_iou(*boxes).amax(dim=1).numpy()
    return ious


def _boxes(rows: Any) -> Boxes:
    xywh = torch.tensor(list(rows), dtype=torch.float64)
    return Boxes(torch.cat((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), dim=1))


def average_precision(matches: Matches, weights: np.ndarray | None = None) -> np.ndarray:
    """COCO's AP of each threshold and class, in percent, nan where a class has no object.

    Args:
        matches: of a run.
        weights: how often each image counts, (N,), or (B, N) for many draws of images at once; by
            default each counts once.

    Returns:
        (T, K), or (B, T, K).
    """
    if weights is None:
        weights = np.ones(len(matches.num_objects), dtype=int)
    draws = np.atleast_2d(weights)
    num_objects = draws @ matches.num_objects  # (B, K)
    ap = np.full((len(draws), len(IOU_THRESHOLDS), num_objects.shape[1]), np.nan)
    for k in range(num_objects.shape[1]):
        one = matches[matches.label == k]
        # Precision has its peaks where an object is found, so only these are looked at.
        peaks = np.flatnonzero(one.is_match.any(axis=1))
        is_match, counts = one.is_match[peaks].T, ~one.is_ignored.T  # (T, P), (T, D)
        if counts.all():
            counts = counts[:1]
        for b in np.flatnonzero(num_objects[:, k]):
            weight = draws[b, one.image]  # (D,)
            hits = np.cumsum(weight[peaks] * is_match, axis=1)
            precision = hits / np.maximum(np.cumsum(weight * counts, axis=1)[:, peaks], 1)
            ap[b, :, k] = _mean_precision(hits / num_objects[b, k], precision)
    return ap.reshape(*weights.shape[:-1], *ap.shape[1:])


def _mean_precision(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Mean over COCO's points of recall, in percent, (T,), of curves (T, P).

    At a point counts the best precision that is reached at this recall or a higher one.
    """
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))  # 0 where a recall is never reached
    first = [np.searchsorted(curve, _RECALL_POINTS) for curve in recall]
    return 100 * np.take_along_axis(best, np.stack(first), axis=1).mean(axis=1)


def save_matches(path: Path, matches: Matches) -> None:
    """Write a run's matches as a compressed npz."""
    arrays = dict(vars(matches))
    for name in ("is_match", "is_ignored"):
        arrays[name] = np.packbits(arrays[name], axis=0)
    with open_atomically(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_matches(path: Path) -> Matches:
    """Read what ``save_matches`` has written."""
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    for name in ("is_match", "is_ignored"):
        values[name] = np.unpackbits(values[name], axis=0, count=len(values["image"])).astype(bool)
    return Matches(**values)
