"""Adaptive training sample selection (ATSS): match anchors to ground-truth boxes.

Letters: N images, L levels, R anchors over all levels of an image, M ground-truth boxes of the
batch, C candidates of a box (topk a level, over all levels).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Boxes
from torch import Tensor

from .cache import Cache
from .nearest_anchors import (
    AnchorGrid,
    BruteForceNearest,
    GridNearest,
    NearestAnchors,
    row_of,
    unpack_candidates,
)

# An anchor's centre must lie inside the box by more than this on every side, in pixels.
_INSIDE_MARGIN = 0.01
# Centre of a box that is not finite; its squared distance overflows fp32.
_FAR = 1e30
# Low bits of a priority, see _priorities.
_ORDER_BITS = 32
# Sets of anchors in the cache; one takes about 1 MB.
_MAX_LAYOUTS = 32


class _Layout(NamedTuple):
    """Precomputed facts about anchors that depend on no box."""

    anchors: list[Tensor]  # held so that no other tensors get their ids
    traits: Tensor  # xyxy, centre xy and area of all anchors, in pixels, (7, R)
    nearest: NearestAnchors

    @property
    def centers(self) -> Tensor:
        """Centres xy, (2, R)."""
        return self.traits[4:6]


class ATSSMatcher:
    """Match anchors to ground truth by a threshold that each box sets for itself.

    The candidates of a box are the anchors of each level whose centres are nearest to its own. A
    candidate is positive where its IoU with the box reaches mean + standard deviation of the
    IoUs of all candidates, and its centre lies inside the box.

    Source: ATSS (arXiv 1912.02424), algorithm 1.
    """

    def __init__(self, topk: int = 9, num_pairs: int = 2**17) -> None:
        """
        Args:
            topk: candidates of each box on each level; a level with fewer anchors gives them all.
            num_pairs: pairs of box and anchor to examine at once, which bounds the memory and does
                not change the result.
        """
        self.topk = topk
        self.num_pairs = num_pairs
        self._layouts: Cache[_Layout] = Cache(_MAX_LAYOUTS)

    def __call__(
        self,
        anchors: list[Boxes],
        gt_boxes: Boxes,
        *,
        grid: AnchorGrid | None = None,
        valid_hw: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Match one image.

        Args:
            anchors: the boxes of each level, in pixels; one square anchor per cell, row-major.
            gt_boxes: M boxes in pixels.
            grid: the anchors' layout, for a fast search; None searches all anchors.
            valid_hw: height and width in pixels that belong to this image in the padded batch.
                Anchors centred outside are neither candidates nor background. None: all belong.

        Returns:
            Index of each anchor's box, int64 (R,), meaningful where its label is 1; and the labels,
            int8 (R,), with 1 for matched, 0 for background and -1 for outside ``valid_hw``.
        """
        matched_idxs, labels = self.match_batch(anchors, [gt_boxes], grid=grid, valid_hw=[valid_hw])
        return matched_idxs[0].masked_fill(labels[0] != 1, 0), labels[0]

    @torch.no_grad()
    def match_batch(
        self,
        anchors: list[Boxes],
        gt_boxes: Sequence[Boxes],
        *,
        grid: AnchorGrid | None = None,
        valid_hw: Sequence[tuple[int, int] | None],
    ) -> tuple[Tensor, Tensor]:
        """Match N images at once, which have the same anchors.

        Args:
            anchors: as for one image.
            gt_boxes: of each image.
            grid: as for one image.
            valid_hw: of each image.

        Returns:
            Index of each anchor's box among the M of the batch, int64 (N, R), which counts the
            images' boxes one after the other and is M where the label is not 1; and the labels,
            int8 (N, R).
        """
        layout = self._layout(anchors, grid)
        sizes = [hw or (torch.inf, torch.inf) for hw in valid_hw]
        ends = [width for _, width in sizes] + [height for height, _ in sizes]
        limits = row_of(layout.traits, ends).view(2, -1)  # (2, N)
        highest = self._highest_priorities(layout, gt_boxes, limits)  # (N, R)
        is_outside = (layout.centers[:, None] >= limits[..., None]).any(dim=0)
        labels = (highest > 0).to(torch.int8).masked_fill_(is_outside, -1)
        return sum(map(len, gt_boxes)) - (highest & (2**_ORDER_BITS - 1)), labels

    def _layout(self, anchors: list[Boxes], grid: AnchorGrid | None) -> _Layout:
        levels = [boxes.tensor for boxes in anchors]

        def make() -> _Layout:
            corners = torch.cat(levels).t()  # (4, R)
            centers, area = _centers(corners), _area(corners)
            counts = [len(level) for level in levels]
            nearest: NearestAnchors = (
                BruteForceNearest(centers.split(counts, dim=1), self.topk)
                if grid is None
                else GridNearest(centers.split(counts, dim=1), self.topk, grid)
            )
            return _Layout(levels, torch.cat((corners, centers, area[None])), nearest)

        key = None if grid is None else (tuple(grid.strides), tuple(map(tuple, grid.sizes)))
        return self._layouts.get((*map(id, levels), key, self.topk), make)

    def _highest_priorities(
        self, layout: _Layout, gt_boxes: Sequence[Boxes], limits: Tensor
    ) -> Tensor:
        """The highest of :func:`_priorities` for each anchor of each image, 0 for none, (N, R).

        Some boxes at a time; the order does not change the maximum. ``limits`` are x and y in
        pixels where an image ends, (2, N).
        """
        boxes = torch.cat([per_image.tensor for per_image in gt_boxes]).t()  # (4, M)
        image_idxs = torch.cat(
            [boxes.new_full((len(b),), i, dtype=torch.int64) for i, b in enumerate(gt_boxes)]
        )
        num_anchors = layout.traits.shape[1]
        highest = image_idxs.new_zeros(len(gt_boxes) * num_anchors)
        step = max(self.num_pairs // layout.nearest.num_examined, 1)
        for start in range(0, len(image_idxs), step):
            some, images = boxes[:, start : start + step], image_idxs[start : start + step]
            centers = _centers(some).nan_to_num(_FAR, _FAR, -_FAR)
            packed = layout.nearest(centers, images, limits)  # (M, C)
            candidates, priorities = _priorities(
                packed, some, layout.traits, len(image_idxs) - start
            )
            places = candidates.add_(images[:, None] * num_anchors)
            highest.scatter_reduce_(0, places.flatten(), priorities.flatten(), "amax")
        return highest.view(len(gt_boxes), -1)


def _centers(corners: Tensor) -> Tensor:
    """Centres xy, (2, M), of boxes xyxy, (4, M)."""
    return (corners[:2] + corners[2:]) / 2


def _priorities(
    packed: Tensor, boxes: Tensor, traits: Tensor, first_order: int
) -> tuple[Tensor, Tensor]:
    """Priority of each (box, anchor) pair; each anchor goes to its highest.

    A priority holds the fp32 bits of the IoU above a number that falls with the box's index: at
    equal IoU the lower index wins. It is 0 where the candidate is not positive.

    Args:
        packed: the candidates, (M, C), see :mod:`nearest_anchors`.
        boxes: xyxy in pixels, (4, M).
        traits: of the anchors of all levels, see :class:`_Layout`, (7, R).
        first_order: low bits of the first box.

    Returns:
        Anchor indices and priorities, int64 (M, C).
    """
    is_candidate, candidates = unpack_candidates(packed)
    found = traits.index_select(1, candidates.flatten()).view(-1, *packed.shape)  # (7, M, C)
    corners, points, area = found[:4], found[4:6], found[6]
    boxes = boxes[..., None]  # (4, M, 1)
    iou = _iou(corners, boxes, area)  # (M, C)
    margins = torch.minimum(points - boxes[:2], boxes[2:] - points).amin(dim=0)  # (M, C)
    threshold = _iou_threshold(iou, is_candidate)
    is_positive = is_candidate & (iou >= threshold) & (margins > _INSIDE_MARGIN)
    order = torch.arange(first_order, first_order - len(packed), -1, device=packed.device)
    priorities = iou.view(torch.int32).to(torch.int64).bitwise_left_shift_(_ORDER_BITS)
    return candidates, priorities.add_(order[:, None]).mul_(is_positive)


def _area(corners: Tensor) -> Tensor:
    """Areas, (...), of boxes xyxy, (4, ...)."""
    width, height = corners[2:] - corners[:2]
    return width * height


def _iou(boxes1: Tensor, boxes2: Tensor, area1: Tensor) -> Tensor:
    """IoU of boxes xyxy, (4, ...), that are broadcast against each other; areas of the first."""
    begin, end = torch.maximum(boxes1[:2], boxes2[:2]), torch.minimum(boxes1[2:], boxes2[2:])
    width, height = (end - begin).clamp_(min=0)
    intersection = width * height
    return intersection / (area1 + _area(boxes2) - intersection)


def _iou_threshold(iou: Tensor, is_candidate: Tensor) -> Tensor:
    """Mean + unbiased standard deviation of each box's candidate IoUs, fp64 (M, 1).

    In fp64 it is that IoU, exactly, where all IoUs of a box are equal, a single one included.
    """
    count = is_candidate.sum(dim=1, keepdim=True)  # (M, 1)
    mean = (iou * is_candidate).sum(dim=1, keepdim=True, dtype=torch.float64) / count
    squares = (iou - mean).square_() * is_candidate
    return mean + (squares.sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
