"""Augmentation of training images."""

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation


def build_train_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Detectron2's resizing, cropping and flipping, and what ``INPUT`` adds.

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
