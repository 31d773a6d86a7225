"""Candidates of a detector, and the ranking of them by its score.

The candidates of an image are the best pairs of anchor and class by the detector's own score,
before suppression and whatever the score: as many for each member, since a threshold would not mean
the same to each.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.layers import batched_nms
from detectron2.structures import Instances

from clq.evaluation.report.tables import Detections, Truth
from clq.modeling import CLQ

NUM_CANDIDATES = 1000  # of an image


@torch.no_grad()
def best_candidates(model: CLQ, batches: Iterable[Any], truth: Truth) -> list[dict[str, Any]]:
    """The candidates of a test set as COCO results; inference of the model stays changed.

    Args:
        model: trained.
        batches: of a test loader.
        truth: COCO json, for its category ids.
    """
    model.eval()
    model.test_score_thresh, model.test_nms_thresh = 0.0, 1.0  # a box suppresses none
    model.max_detections_per_image = NUM_CANDIDATES
    category_ids = sorted(category["id"] for category in truth["categories"])
    found = []
    for batch in batches:
        for sample, output in zip(batch, model(batch)):
            found += _as_results(sample["image_id"], output["instances"], category_ids)
    return found


def _as_results(
    image_id: int, instances: Instances, category_ids: list[int]
) -> list[dict[str, Any]]:
    boxes = instances.pred_boxes.tensor.clone()
    boxes[:, 2:] -= boxes[:, :2]
    columns = (boxes.tolist(), instances.scores.tolist(), instances.pred_classes.tolist())
    return [
        {"image_id": image_id, "category_id": category_ids[k], "bbox": box, "score": score}
        for box, score, k in zip(*columns)
    ]


def suppressed(candidates: Detections, *, iou: float, limit: int) -> list[Mapping[str, Any]]:
    """Suppress within each class and image, and keep the best ``limit`` of an image.

    Args:
        candidates: COCO results.
        iou: above which a better candidate suppresses another.
        limit: most detections of an image.
    """
    images: dict[int, list[Mapping[str, Any]]] = {}
    for candidate in candidates:
        images.setdefault(candidate["image_id"], []).append(candidate)
    kept = []
    for found in images.values():
        boxes = torch.tensor([candidate["bbox"] for candidate in found])
        boxes[:, 2:] += boxes[:, :2]
        scores = torch.tensor([candidate["score"] for candidate in found])
        labels = torch.tensor([candidate["category_id"] for candidate in found])
        kept += [found[row] for row in batched_nms(boxes, scores, labels, iou)[:limit].tolist()]
    return kept
