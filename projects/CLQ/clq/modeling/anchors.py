"""The anchors of a pyramid, laid out once for each shape of its maps."""

from collections.abc import Sequence

from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes
from torch import Tensor

from .kept import Kept

__all__ = ["KeepingAnchorGenerator"]

# Batches of images of different sizes have maps of many shapes; those of one take about 1 MB.
_MOST_SHAPES = 32


class KeepingAnchorGenerator(DefaultAnchorGenerator):
    """Detectron2's, which gives the same boxes again for maps of a shape that it had before.

    So a step neither computes them nor copies them to its device.
    """

    def __init__(
        self,
        *,
        sizes: list[list[float]],
        aspect_ratios: list[float],
        strides: list[int],
        offset: float,
    ) -> None:
        """
        Args:
            sizes: sides of the anchors of each level in pixels.
            aspect_ratios: of the anchors, height by width.
            strides: of the levels, in pixels.
            offset: of the first anchor's centre from the corner of the image, in strides.
        """
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=offset)
        self._kept: Kept[list[Boxes]] = Kept(_MOST_SHAPES)

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """The boxes of each level, in pixels, not to be changed in place."""
        make = super().forward
        places = tuple((level.device, level.dtype) for level in self.cell_anchors)
        shapes = tuple(tuple(maps.shape[-2:]) for maps in features)
        return self._kept.get((places, shapes), lambda: make(features))
