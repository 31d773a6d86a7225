"""Adaptive training sample selection: which anchors learn which ground-truth box.

Letters: L levels, R anchors over all levels of an image, M ground-truth boxes, C candidates of a
box (at most topk a level, over all levels).
"""

import torch
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou
from torch import Tensor

# An anchor's centre must lie inside the box by more than this on every side, in pixels.
_INSIDE_MARGIN = 0.01


class ATSSMatcher:
    """Match anchors to ground truth by a threshold that each box sets for itself.

    The candidates of a box are the anchors of each level whose centres are nearest to its own. A
    candidate is positive where its IoU with the box reaches mean + standard deviation of the
    IoUs of all candidates, and its centre lies inside the box.

    Source: ATSS (arXiv 1912.02424), algorithm 1.
    """

    def __init__(self, topk: int = 9) -> None:
        """
        Args:
            topk: candidates of each box on each level; a level with fewer anchors gives them all.
        """
        self.topk = topk

    @torch.no_grad()
    def __call__(
        self,
        anchors: list[Boxes],
        gt_boxes: Boxes,
        *,
        valid_hw: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            anchors: the boxes of each level, in pixels; one square anchor per cell, row-major.
            gt_boxes: M boxes in pixels.
            valid_hw: height and width in pixels that belong to this image in the padded batch.
                Anchors centred outside are neither candidates nor background. None: all belong.

        Returns:
            matched_idxs: index of each anchor's box, int64 (R,), meaningful where label is 1.
            labels: int8 (R,): 1 matched, 0 background, -1 outside ``valid_hw``.
        """
        all_anchors = Boxes.cat(anchors)
        centers = all_anchors.get_centers()  # (R, 2)
        valid = torch.ones_like(centers[:, 0], dtype=torch.bool)
        if valid_hw is not None:
            valid = (centers[:, 0] < valid_hw[1]) & (centers[:, 1] < valid_hw[0])

        levels = [len(boxes) for boxes in anchors]
        candidates = self._nearest(centers, valid, levels, gt_boxes)  # (M, C)
        is_candidate = valid[candidates]  # False where a level has fewer than topk valid anchors
        boxes = gt_boxes.tensor[:, None].expand(-1, candidates.shape[1], -1)  # (M, C, 4)
        iou = matched_pairwise_iou(
            Boxes(all_anchors.tensor[candidates].flatten(0, 1)), Boxes(boxes.flatten(0, 1))
        ).view(candidates.shape)
        points = centers[candidates]  # (M, C, 2)
        margins = torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)
        is_positive = (
            is_candidate
            & (iou >= _iou_threshold(iou, is_candidate))
            & (margins.amin(dim=-1) > _INSIDE_MARGIN)
        )
        return _resolve_conflicts(candidates, is_positive, iou, valid)

    def _nearest(
        self, centers: Tensor, valid: Tensor, levels: list[int], gt_boxes: Boxes
    ) -> Tensor:
        """Indices of the topk valid anchors of each level nearest to each box, (M, C).

        At equal distance the lower anchor index comes first. A level with fewer than topk valid
        anchors fills up with invalid ones.
        """
        nearest, start = [], 0
        for level_centers, level_valid in zip(centers.split(levels), valid.split(levels)):
            offsets = level_centers[None] - gt_boxes.get_centers()[:, None]  # (M, R_l, 2)
            distance = offsets.square().sum(dim=-1).masked_fill(~level_valid, torch.inf)
            order = distance.sort(dim=1, stable=True).indices[:, : self.topk]
            nearest.append(order + start)
            start += len(level_centers)
        return torch.cat(nearest, dim=1)


def _iou_threshold(iou: Tensor, is_candidate: Tensor) -> Tensor:
    """Mean + unbiased standard deviation of each box's candidate IoUs, (M, 1).

    Where all IoUs of a box are equal, a single candidate included, that IoU.
    """
    count = is_candidate.sum(dim=1, keepdim=True)  # (M, 1)
    mean = (iou * is_candidate).sum(dim=1, keepdim=True) / count
    variance = ((iou - mean).square() * is_candidate).sum(dim=1, keepdim=True) / (count - 1)
    highest = iou.masked_fill(~is_candidate, -torch.inf).amax(dim=1, keepdim=True)
    lowest = iou.masked_fill(~is_candidate, torch.inf).amin(dim=1, keepdim=True)
    return torch.where(highest == lowest, highest, mean + variance.sqrt())


def _resolve_conflicts(
    candidates: Tensor, is_positive: Tensor, iou: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Give each anchor to the box with the highest IoU, at equal IoU to the lower box index.

    Args:
        candidates: anchor index of each candidate, (M, C).
        is_positive: whether the candidate is positive for its box, (M, C).
        iou: IoU of the candidate with its box, (M, C).
        valid: whether an anchor belongs to the image, (R,).

    Returns:
        matched_idxs and labels as in :class:`ATSSMatcher`.
    """
    num_boxes = len(candidates)
    best_iou = iou.new_full(valid.shape, -1).scatter_reduce(
        0, candidates.flatten(), iou.masked_fill(~is_positive, -1).flatten(), "amax"
    )
    wins = is_positive & (iou == best_iou[candidates])
    box_idxs = torch.arange(num_boxes, device=iou.device)[:, None].expand_as(candidates)
    matched_idxs = candidates.new_full(valid.shape, num_boxes).scatter_reduce(
        0, candidates.flatten(), box_idxs.masked_fill(~wins, num_boxes).flatten(), "amin"
    )
    is_matched = matched_idxs < num_boxes
    labels = is_matched.to(torch.int8).masked_fill(~valid, -1)
    return matched_idxs.masked_fill(~is_matched, 0), labels
