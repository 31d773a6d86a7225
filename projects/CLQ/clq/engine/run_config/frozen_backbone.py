"""Refuse to hold what was never loaded: frozen parts of a backbone that starts at random."""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from ...checkpoint.output_dir import list_checkpoints
from ...modeling.backbones import FixedStatisticsFPN, build_without_weights

_REMEDIES = {
    "build_clq_resnet_fpn_backbone": (
        "set MODEL.BACKBONE.FREEZE_AT 0, MODEL.RESNETS.NORM 'BN' and "
        "MODEL.RESNETS.TRAIN_NORM_AFFINE False"
    ),
    "build_timm_fpn_backbone": "set MODEL.TIMM.FROZEN_LAYERS [] and MODEL.TIMM.FREEZE_NORM False",
    "build_torchvision_fpn_backbone": (
        "set MODEL.TORCHVISION.FROZEN_LAYERS [] and MODEL.TORCHVISION.FREEZE_NORM False"
    ),
}

# Modules that hold all stages of a network.
_NUMBERED = ("blocks", "features", "layers", "stages")


def check_frozen_parts(cfg: CfgNode, *, resume: bool) -> None:
    """Refuse a training that freezes parts of the backbone without having loaded them.

    Weights that are given fill the backbone, or are refused when they are loaded.

    Args:
        cfg: of the training.
        resume: it goes on from a checkpoint in ``OUTPUT_DIR``, if there is one.

    Raises:
        ValueError: naming the parts.
    """
    is_resumed = resume and list_checkpoints(Path(cfg.OUTPUT_DIR))
    if cfg.MODEL.WEIGHTS or cfg.MODEL.ALLOW_FROZEN_RANDOM or is_resumed:
        return
    backbone = build_without_weights(cfg)
    holds_all = isinstance(backbone, FixedStatisticsFPN)
    held = (FrozenBatchNorm2d, nn.BatchNorm2d) if holds_all else FrozenBatchNorm2d
    norms = {name for name, module in backbone.named_modules() if isinstance(module, held)}
    frozen = [
        name
        for name, value in backbone.named_parameters()
        if not value.requires_grad and name.rpartition(".")[0] not in norms
    ]
    parts = dict.fromkeys(_part(name) for name in frozen)
    found = [f"frozen {', '.join(parts)}"] if parts else []
    found += [f"{len(norms)} norms with fixed statistics"] if norms else []
    if found:
        remedy = _REMEDIES.get(cfg.MODEL.BACKBONE.NAME, "let them train")
        raise ValueError(
            f"MODEL.WEIGHTS is empty, but the backbone has {' and '.join(found)}, which would stay "
            f"as they start, at random; name pretrained weights, or {remedy} "
            "(MODEL.ALLOW_FROZEN_RANDOM True trains all the same)."
        )


def _part(name: str) -> str:
    """Stage of a ResNet or block of another network that a parameter belongs to."""
    path = name.removeprefix("bottom_up.").removeprefix("body.").split(".")
    return ".".join(path[: 2 if path[0] in _NUMBERED else 1])
