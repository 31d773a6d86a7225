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
    best_iou = torch.full_like(centers[:, 0], -1)
    matched_idxs = torch.zeros_like(best_iou, dtype=torch.int64)
    labels = torch.zeros_like(best_iou, dtype=torch.int8)
    if valid_hw is not None:
        labels[(centers[:, 0] >= valid_hw[1]) | (centers[:, 1] >= valid_hw[0])] = -1
    levels = torch.arange(len(labels), device=labels.device).split([len(b) for b in anchors])
    levels = [(valid := level[labels[level] >= 0], centers[valid]) for level in levels]
    for m, (box, center) in enumerate(zip(gt_boxes.tensor, gt_boxes.get_centers())):
        candidates = torch.cat([_nearest(*level, center, topk) for level in levels])
        values = iou[candidates, m]
        equal = bool((values == values[0]).all())
        exact = values.double()
        threshold = exact[0] if equal else exact.mean() + exact.std(unbiased=True)
        points = centers[candidates]
        inside = torch.cat((points - box[:2], box[2:] - points), dim=1).amin(dim=1) > 0.01
        chosen = inside & (exact >= threshold) & (values > best_iou[candidates])
        winners = candidates[chosen]
        best_iou[winners], matched_idxs[winners], labels[winners] = values[chosen], m, 1
    return matched_idxs, labels


def _nearest(idxs: Tensor, centers: Tensor, center: Tensor, topk: int) -> Tensor:
    """The topk anchors nearest to a point, of equally near ones those with the lower index."""
    distance = (centers - center).square().sum(dim=1)
    if len(idxs) > topk:  # a stable sort of all takes ten times as long
        farthest = distance.topk(topk, largest=False).values[-1]
        near = (distance <= farthest).nonzero().squeeze(1)
        idxs, distance = idxs[near], distance[near]
    return idxs[distance.sort(stable=True).indices[:topk]]
