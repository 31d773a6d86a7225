"""Each member of the family at the size of the tiny detector, and a batch for its criterion."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from clq.config import check_config, get_clq_cfg
from clq.modeling import CLQ
from clq.modeling.clq import Predictions
from reference.devices import current
from reference.tiny import MODEL_KEYS, ROOT

COCO = ROOT / "configs" / "COCO-Detection"
NUM_CLASSES = 3


def member_config(member: str, **keys: Any) -> CfgNode:
    """The member's COCO config at the size of the tiny detector."""
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(COCO / f"{member}_R_50_FPN_1x.yaml"))
    keys = {**MODEL_KEYS, "MODEL.CLQ.NUM_CLASSES": NUM_CLASSES, **keys}
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    check_config(cfg)
    return cfg


def build(member: str, **keys: Any) -> CLQ:
    """The member with the same random weights at every call, on the current device."""
    torch.manual_seed(0)
    return build_model(member_config(member, **{"MODEL.DEVICE": current().type, **keys}))


def first_image(detector: CLQ, predictions: Predictions) -> list[list[Tensor] | None]:
    """Rows of the first image from the head's maps, level by level, as inference takes them."""
    return [maps and [rows[0] for rows in maps] for maps in detector._transpose(predictions)]


def random_batch(detector: CLQ, *, empty: bool) -> list[Tensor | None]:
    """Arguments of the criterion: 2 images of 30 anchors, some without objects or padding."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    centers = torch.arange(30.0).view(-1, 1) * 8
    half = torch.tensor([32.0, 64.0]).repeat(15).view(-1, 1)
    anchors = torch.cat((centers - half, centers - half, centers + half, centers + half), dim=1)
    labels = torch.randint(0, NUM_CLASSES + 1, (2, 30), generator=generator)
    labels[:, ::3], labels[1, 20:] = NUM_CLASSES, -1
    labels[1, :15] = NUM_CLASSES
    if empty:
        labels = torch.where(labels == -1, -1, NUM_CLASSES)
    extent = torch.rand(2, 30, 2, generator=generator) * 90 + 2
    shift = torch.rand(2, 30, 2, generator=generator) * extent
    boxes = torch.cat((centers - shift, centers - shift + extent), dim=-1)
    channels = detector.box2box_transform.num_channels
    quality = None if detector.head.quality.test_alpha == 0 else draw(2, 30, 1)
    return [anchors, draw(2, 30, NUM_CLASSES), draw(2, 30, channels), quality, labels, boxes]


def losses_of(member: str, images: slice) -> dict[str, Tensor]:
    """Losses of some of the images of :func:`random_batch`, of which the second has no object."""
    detector = build(member)
    anchors, *batch = random_batch(detector, empty=False)
    labels = batch[3]
    labels[1] = torch.where(labels[1] == -1, -1, NUM_CLASSES)
    logits, dists, quality, labels, boxes = (None if x is None else x[images] for x in batch)
    return detector.criterion(anchors, logits, dists, quality, labels, boxes)
