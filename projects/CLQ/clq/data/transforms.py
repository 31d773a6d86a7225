"""Detectron2's resizing of images, computed by PyTorch instead of Pillow.

The filter is the same, and so are the boxes. Where the two round differently, a pixel differs by
one grey level, and about one in ten million by two.

Letters: H, W height and width of an image, C channels.
"""

from collections.abc import Iterable

import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image
from torch.nn import functional as F

__all__ = ["ResizeShortestEdge", "with_fast_resizing"]


class ResizeTransform(T.ResizeTransform):
    """Several times as fast for 8-bit images, which it gives back stored plane by plane."""

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """
        Args:
            img: (H, W, C), or of a shape that Detectron2's takes.
            interp: one of Pillow's filters in place of the transform's own.
        """
        resample = self.interp if interp is None else interp
        # Pillow multiplies colours by the opacity, and takes two dimensions for a mask.
        is_picture = img.dtype == np.uint8 and img.ndim == 3 and img.shape[2] in (1, 3)
        if not is_picture or resample != Image.Resampling.BILINEAR:
            return super().apply_image(img, interp)
        assert img.shape[:2] == (self.h, self.w), img.shape
        # PyTorch takes neither what can't be written to nor what is flipped.
        planes = torch.from_numpy(np.array(img, order="C")).permute(2, 0, 1)  # (C, H, W)
        size = (self.new_h, self.new_w)
        resized = F.interpolate(planes[None], size, mode="bilinear", antialias=True)[0]
        return resized.contiguous().permute(1, 2, 0).numpy()  # (H, W, C)


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's with :class:`ResizeTransform`."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        resize = super().get_transform(image)
        if not isinstance(resize, T.ResizeTransform):  # a size of 0 leaves images alone
            return resize
        return ResizeTransform(resize.h, resize.w, resize.new_h, resize.new_w, resize.interp)


def with_fast_resizing(
    augmentations: Iterable[T.Augmentation | T.Transform],
) -> list[T.Augmentation | T.Transform]:
    """The augmentations, with :class:`ResizeShortestEdge` in place of Detectron2's."""
    return [
        (
            ResizeShortestEdge(a.short_edge_length, a.max_size, a.sample_style, a.interp)
            if type(a) is T.ResizeShortestEdge
            else a
        )
        for a in augmentations
    ]
