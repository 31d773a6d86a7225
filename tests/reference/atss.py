"""ATSS as its description reads, one box at a time: the oracle of the matcher's tests."""

import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor


def plain_atss(
    anchors: list[Boxes],
    gt_boxes: Boxes,
    topk: int = 9,
    valid_hw: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Same arguments and results as ``ATSSMatcher``, from the full anchors-by-boxes IoU matrix."""
    all_anchors = Boxes.cat(anchors)
    centers = all_anchors.get_centers()
    iou = pairwise_iou(all_anchors, gt_boxes)  # (R, M)
    best_iou = torch.full((len(all_anchors),), -1.0)
    matched_idxs = torch.zeros(len(all_anchors), dtype=torch.int64)
    labels = torch.zeros(len(all_anchors), dtype=torch.int8)
    if valid_hw is not None:
        labels[(centers[:, 0] >= valid_hw[1]) | (centers[:, 1] >= valid_hw[0])] = -1
    for m, box in enumerate(gt_boxes.tensor):
        candidates = []
        start = 0
        for level in anchors:
            rows = torch.arange(start, start + len(level))
            rows = rows[labels[rows] >= 0]
            offsets = centers[rows] - gt_boxes[m].get_centers()
            order = offsets.square().sum(dim=1).sort(stable=True).indices[:topk]
            candidates += rows[order].tolist()
            start += len(level)
        values = iou[candidates, m]
        equal = bool((values == values[0]).all())
        threshold = values[0] if equal else values.mean() + values.std(unbiased=True)
        for r in candidates:
            x, y = centers[r]
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if inside and iou[r, m] >= threshold and iou[r, m] > best_iou[r]:
                best_iou[r], matched_idxs[r], labels[r] = iou[r, m], m, 1
    return matched_idxs, labels
