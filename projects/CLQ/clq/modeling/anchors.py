"""Square anchors, one per cell, laid out once for each shape of the feature maps."""

from collections.abc import Sequence

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes
from torch import Tensor

from .cache import Cache

# The side of an anchor, in strides.
ANCHOR_SCALE = 8
# Batches of images of different sizes have maps of many shapes; those of one take about 1 MB.
_MAX_SHAPES = 32


def anchor_strides(anchors: Tensor) -> Tensor:
    """Stride of each anchor's level in pixels, (P, 1), from anchors xyxy in pixels, (P, 4)."""
    return (anchors[:, 2:3] - anchors[:, 0:1]) / ANCHOR_SCALE


def anchors_at(cells: Tensor, width: int, stride: int) -> Tensor:
    """Lay out the anchors of some cells of a level, those of :class:`CachedAnchorGenerator`.

    Args:
        cells: indices in the flattened map, (...).
        width: of the map, in cells.
        stride: of the level, in pixels.

    Returns:
        fp32 xyxy in pixels, (..., 4).
    """
    rows = cells // width
    # Not cells % width: PyTorch writes no remainder by a size of the graph to ONNX.
    centers = torch.stack((cells - rows * width, rows), dim=-1) * float(stride)
    half = ANCHOR_SCALE * stride / 2
    return torch.cat((centers - half, centers + half), dim=-1)


class CachedAnchorGenerator(DefaultAnchorGenerator):
    """One square anchor of ``ANCHOR_SCALE`` strides in each cell, centred on index times stride.

    With a cache: a step neither computes anchors nor copies them to its device.
    """

    def __init__(self, strides: Sequence[int]) -> None:
        """
        Args:
            strides: of the levels, in pixels.
        """
        sizes = [[ANCHOR_SCALE * stride] for stride in strides]
        super().__init__(sizes=sizes, aspect_ratios=[1.0], strides=list(strides), offset=0.0)
        self._cache: Cache[list[Boxes]] = Cache(_MAX_SHAPES)

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """The boxes of each level, in pixels, not to be changed in place."""
        make = super().forward
        places = tuple((level.device, level.dtype) for level in self.cell_anchors)
        shapes = tuple(tuple(maps.shape[-2:]) for maps in features)
        return self._cache.get((places, shapes), lambda: make(features))
