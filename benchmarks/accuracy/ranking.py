"""How well scores rank detections by the fit of their boxes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou

SCORE_THRESHOLD = 0.05


def rank_correlation(truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> float:
    """Spearman's rank correlation between the score and the true IoU of a model's detections.

    A detection's true IoU is that with the ground-truth box of its class, in its image, which it
    overlaps most: 0 where there is none. Several detections may take the same box. All detections
    with a score above ``SCORE_THRESHOLD`` count, of all images and classes together; crowd boxes
    are left out of the ground truth.

    Args:
        truth: COCO json.
        detections: COCO results, boxes as (x, y, w, h) in pixels.

    Returns:
        -1 to 1; nan where there are fewer than two different scores or IoUs.
    """
    gt_boxes, found = defaultdict(list), defaultdict(list)
    for annotation in truth["annotations"]:
        if not annotation.get("iscrowd"):
            key = annotation["image_id"], annotation["category_id"]
            gt_boxes[key].append(annotation["bbox"])
    for detection in detections:
        if detection["score"] > SCORE_THRESHOLD:
            key = detection["image_id"], detection["category_id"]
            found[key].append([*detection["bbox"], detection["score"]])
    ious, scores = [np.zeros(0)], [np.zeros(0)]
    for key, rows in found.items():
        table = np.array(rows, dtype=float)  # (P, 5)
        scores.append(table[:, 4])
        ious.append(_best_iou(table[:, :4], gt_boxes[key]))
    return spearman(np.concatenate(scores), np.concatenate(ious))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the ranks of two series (P,), where equal values share their mean rank."""
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return float("nan")
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _best_iou(boxes: np.ndarray, gt_boxes: list[list[float]]) -> np.ndarray:
    """Highest IoU of each box (P, 4) with any ground-truth box, (P,); all as (x, y, w, h)."""
    if not gt_boxes:
        return np.zeros(len(boxes))
    corners = [
        Boxes(torch.tensor(np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)))
        for xywh in (boxes, np.array(gt_boxes, dtype=float))
    ]
    return pairwise_iou(*corners).max(dim=1).values.numpy()
