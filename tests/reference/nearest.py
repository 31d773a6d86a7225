"""The nearest anchors by a search of all, the oracle of the search on a grid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clq.modeling.nearest_anchors import pack


class BruteForceNearest:
    """A plain reading of :class:`clq.modeling.nearest_anchors.GridNearest`."""

    def __init__(self, anchor_centers: Sequence[Tensor], topk: int) -> None:
        self.anchor_centers, self.topk = anchor_centers, topk

    def __call__(self, centers: Tensor, image_idxs: Tensor, limits: Tensor) -> Tensor:
        limits = limits[:, image_idxs, None]  # (A, M, 1)
        nearest, start = [], 0
        for level in self.anchor_centers:
            x_square, y_square = (level[:, None] - centers[..., None]).square()  # (M, R_l) each
            is_outside = (level[:, None] >= limits).any(dim=0)
            distance = (x_square + y_square).masked_fill(is_outside, torch.inf)
            packed = pack(distance, torch.arange(start, start + level.shape[1]))
            lacking = max(self.topk - level.shape[1], 0)
            none = pack(torch.full((len(packed), lacking), torch.inf), torch.zeros(lacking).long())
            nearest.append(torch.cat((packed, none), dim=1).sort(dim=1).values[:, : self.topk])
            start += level.shape[1]
        return torch.cat(nearest, dim=1)
