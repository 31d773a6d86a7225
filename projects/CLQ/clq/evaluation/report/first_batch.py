"""The first training images as the network sees them, with the anchors that ATSS matched.

Letters: L levels, R anchors of an image.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes
from PIL import Image, ImageDraw

from ...data import TrainLoader
from ...data_report.anchor_coverage import DetectorScale, image_anchors
from ...modeling.crowd import CROWD_CLASS
from ...modeling.matcher import ATSSMatcher
from .readings import counted
from .thumbnails import SUBJECT, TRUTH, Thumbnail, as_thumbnail

_SIDE = 420  # pixels of a thumbnail


@dataclass(frozen=True)
class TrainingImage:
    """An augmented training image.

    Attributes:
        thumbnail: with its boxes, and a dot on the centre of each matched anchor.
        num_objects: boxes of it.
        num_anchors: matched anchors by the stride of their level in pixels.
    """

    thumbnail: Thumbnail
    num_objects: int
    num_anchors: dict[int, int]

    @property
    def caption(self) -> str:
        """The counts in words."""
        levels = ", ".join(f"{n} at stride {stride}" for stride, n in self.num_anchors.items())
        objects = counted(self.num_objects, "object")
        return f"{objects}; matched anchors: {levels or 'none'}"


def read_first_images(cfg: CfgNode, limit: int = 8) -> list[TrainingImage]:
    """Load the first images of a training run again, and match their anchors.

    They are those of rank 0. With a negative ``SEED``, the run had other random numbers.

    Args:
        cfg: of the run; its training data is registered.
        limit: number of images.

    Raises:
        OSError: the annotations can't be read.
        ValueError: the data or an image can't be read, or a user's function of
            ``INPUT.AUGMENTATIONS`` has not been imported.
    """
    cfg = cfg.clone()
    cfg.defrost()
    # Workers would not pay off, and a random seed is agreed on by all ranks.
    cfg.DATALOADER.NUM_WORKERS, cfg.SEED = 0, max(cfg.SEED, 0)
    loader = TrainLoader.from_config(cfg)
    scale = DetectorScale.from_config(cfg)
    samples = itertools.chain.from_iterable(loader)
    return [_show(sample, scale, cfg.INPUT.FORMAT) for sample in itertools.islice(samples, limit)]


def _show(sample: Mapping[str, Any], scale: DetectorScale, channels: str) -> TrainingImage:
    pixels = sample["image"].permute(1, 2, 0).numpy()  # (H, W, 3)
    pixels = pixels[:, :, ::-1] if channels == "BGR" else pixels
    instances = sample["instances"]
    boxes = instances.gt_boxes[instances.gt_classes != CROWD_CLASS]
    centers, strides = _matched_anchors(boxes, pixels.shape[:2], scale)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    factor = _SIDE / max(picture.size)
    picture = picture.resize([max(round(side * factor), 1) for side in picture.size])
    draw = ImageDraw.Draw(picture)
    for corners in (boxes.tensor * factor).tolist():
        draw.rectangle(corners, outline=TRUTH, width=2)
    for (x, y), stride in zip((centers * factor).tolist(), strides.tolist(), strict=True):
        radius = 1.5 + np.log2(stride / min(scale.strides))  # larger on coarser levels
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=SUBJECT)
    counts = {s: int((strides == s).sum()) for s in scale.strides if (strides == s).any()}
    return TrainingImage(as_thumbnail(picture), len(boxes), counts)


def _matched_anchors(
    boxes: Boxes, size: tuple[int, int], scale: DetectorScale
) -> tuple[torch.Tensor, torch.Tensor]:
    """Match the anchors of one image.

    Returns:
        Centres of the matched anchors in pixels, (P, 2), and the strides of their levels, (P,).
    """
    height, width = (-(-side // scale.size_divisibility) * scale.size_divisibility for side in size)
    anchors, grid = image_anchors(scale.strides, width, height)
    _, labels = ATSSMatcher(scale.topk)(anchors, boxes, grid=grid)  # (R,)
    strides = torch.cat(
        [torch.full((len(level),), s) for level, s in zip(anchors, scale.strides, strict=True)]
    )
    is_matched = labels == 1
    return Boxes.cat(anchors).get_centers()[is_matched], strides[is_matched]
