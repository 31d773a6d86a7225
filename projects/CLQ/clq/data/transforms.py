"""Training augmentations, and resizing by PyTorch instead of Pillow.

Filter and boxes are those of Detectron2's resizing. Where the two round differently, a pixel
differs by one grey level, and about one in ten million by two.

Letters: H, W height and width of an image, C channels.
"""

from collections.abc import Iterable

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from PIL import Image
from torch.nn import functional as F


def build_train_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Build Detectron2's resizing, cropping and flipping, and what else ``INPUT`` enables.

    Args:
        cfg: reads ``INPUT.*``.
    """
    augmentations = build_augmentation(cfg, is_train=True)
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    if cfg.INPUT.VERTICAL_FLIP:
        augmentations.append(T.RandomFlip(horizontal=False, vertical=True))
    if cfg.INPUT.QUARTER_TURNS:
        augmentations.append(T.RandomRotation([0, 90, 180, 270], sample_style="choice"))
    if cfg.INPUT.COLOR_JITTER > 0:
        low, high = 1 - cfg.INPUT.COLOR_JITTER, 1 + cfg.INPUT.COLOR_JITTER
        for jitter in (T.RandomBrightness, T.RandomContrast, T.RandomSaturation):
            augmentations.append(jitter(low, high))
    return augmentations


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image (H, W, C) uint8, which is then planar in memory.

    :func:`clq.runtime.resize.resize` gives the same without PyTorch.
    """
    # PyTorch accepts neither read-only arrays nor negative strides.
    planes = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)  # (C, H, W)
    resized = F.interpolate(planes[None], (height, width), mode="bilinear", antialias=True)[0]
    return resized.contiguous().permute(1, 2, 0).numpy()  # (H, W, C)


class ResizeTransform(T.ResizeTransform):
    """Several times as fast as Detectron2's for 8-bit images; the output is planar in memory."""

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """
        Args:
            img: (H, W, C), or of a shape that Detectron2's takes.
            interp: one of Pillow's filters in place of the transform's own.
        """
        resample = self.interp if interp is None else interp
        # Pillow premultiplies colours by alpha, and takes two dimensions for a mask.
        is_plain_image = img.dtype == np.uint8 and img.ndim == 3 and img.shape[2] in (1, 3)
        if not is_plain_image or resample != Image.Resampling.BILINEAR:
            return super().apply_image(img, interp)
        assert img.shape[:2] == (self.h, self.w), img.shape
        return resize(img, self.new_h, self.new_w)


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's augmentation, with :class:`ResizeTransform` as its transform.

    A side is at least one pixel, however thin the image.
    """

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        shape = T.ResizeShortestEdge.get_output_shape(oldh, oldw, short_edge_length, max_size)
        return max(shape[0], 1), max(shape[1], 1)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        resize = super().get_transform(image)
        if not isinstance(resize, T.ResizeTransform):  # a size of 0 disables resizing
            return resize
        shape = max(resize.new_h, 1), max(resize.new_w, 1)
        return ResizeTransform(resize.h, resize.w, *shape, resize.interp)


def with_fast_resizing(
    augmentations: Iterable[T.Augmentation | T.Transform],
) -> list[T.Augmentation | T.Transform]:
    """Replace Detectron2's ``ResizeShortestEdge`` by :class:`ResizeShortestEdge`."""
    return [
        (
            ResizeShortestEdge(a.short_edge_length, a.max_size, a.sample_style, a.interp)
            if type(a) is T.ResizeShortestEdge
            else a
        )
        for a in augmentations
    ]
