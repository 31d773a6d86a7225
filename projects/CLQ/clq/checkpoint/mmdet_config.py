"""The configuration of a mmdetection detector, read off the shapes of its tensors."""

import math
import re
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor

from ..config import get_clq_cfg
from .mmdet_meta import num_groups_of_mmdet, pixel_settings_of_mmdet
from .mmdet_names import HEADS

__all__ = ["config_of_mmdet"]

_LEVELS = ["res3", "res4", "res5"]
# Blocks of the four stages, and whether a block is a bottleneck, by depth.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
_IMAGENET: dict[str, Any] = {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}


def config_of_mmdet(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> CfgNode:
    """Configuration of the detector that a checkpoint was saved from, not frozen.

    Args:
        tensors: under mmdetection's names.
        meta: what the checkpoint says beside; used where the tensors do not tell.

    Raises:
        ValueError: a tensor is missing that decides, or the network is none that we can build.
    """
    try:
        keys = {**_resnet_keys(tensors), **_neck_and_head_keys(tensors, meta)}
    except KeyError as error:
        raise ValueError(f"the tensor {error.args[0]} is missing.") from None
    keys |= {**_IMAGENET, **pixel_settings_of_mmdet(meta)}
    cfg = get_clq_cfg()
    cfg.MODEL.META_ARCHITECTURE = "CLQ"
    cfg.MODEL.BACKBONE.NAME = "build_clq_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = list(_LEVELS)
    cfg.MODEL.FPN.IN_FEATURES = list(_LEVELS)
    cfg.merge_from_list([part for item in keys.items() for part in item])
    return cfg


def _resnet_keys(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = [_num_blocks(tensors, stage) for stage in range(1, 5)]
    bottleneck = "backbone.layer1.0.conv3.weight" in tensors
    depth = _DEPTHS.get((tuple(stages), bottleneck))
    if depth is None:
        kind = "bottleneck" if bottleneck else "basic"
        raise ValueError(f"its backbone is no ResNet that CLQ builds: {kind} blocks {stages}.")
    conv2 = tensors["backbone.layer1.0.conv2.weight"]
    last = tensors[f"backbone.layer1.0.conv{3 if bottleneck else 2}.weight"]
    keys: dict[str, Any] = {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": len(tensors["backbone.conv1.weight"]),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": len(last),
    }
    deformable = _deformable_keys(tensors)
    if bottleneck:
        groups, width = conv2.shape[0] // conv2.shape[1], conv2.shape[1]
        keys |= {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": width}
    elif len(last) != 64 or deformable:
        raise ValueError(
            f"its backbone is a ResNet-{depth} of width {len(last)}"
            f"{' with deformable stages' if deformable else ''}, but Detectron2 builds one of "
            "width 64 without deformable stages only."
        )
    return keys | deformable


def _num_blocks(tensors: Mapping[str, Tensor], stage: int) -> int:
    pattern = re.compile(rf"backbone\.layer{stage}\.(\d+)\.conv1\.weight")
    return len({found[1] for name in tensors if (found := pattern.fullmatch(name))})


def _deformable_keys(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keys of the deformable stages; none without such a stage."""
    pattern = re.compile(r"backbone\.layer(\d)\.0\.conv2(\.conv_offset|_offset)\.weight")
    offsets = {int(f[1]): tensors[name] for name in tensors if (f := pattern.fullmatch(name))}
    if not offsets:
        return {}
    outputs = {len(offset) for offset in offsets.values()}
    if len(outputs) > 1:
        raise ValueError("its deformable stages differ in kind, which CLQ can't build.")
    # Nine taps have two offsets each, and a mask where the convolution is modulated.
    (channels,) = outputs
    modulated = channels % 27 == 0
    return {
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [stage in offsets for stage in range(1, 5)],
        "MODEL.RESNETS.DEFORM_MODULATED": modulated,
        "MODEL.RESNETS.DEFORM_NUM_GROUPS": channels // (27 if modulated else 18),
    }


def _neck_and_head_keys(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Any]:
    head = {n.removeprefix("bbox_head."): t for n, t in tensors.items() if "bbox_head." in n}
    kind = next((kind for kind in HEADS if f"{kind}_cls.weight" in head), None)
    if kind is None:
        raise ValueError("its head is none of ATSS, GFL or CLQ.")
    channels = len(tensors["neck.fpn_convs.0.conv.weight"])
    codes = len(head[f"{kind}_reg.weight"])
    norms = [name for name in head if re.fullmatch(r"cls_convs\.\d+\.gn\.weight", name)]
    offset = head.get("feature_alignment.conv_offset.weight")
    localization = "retina_iou.weight" in head
    centerness = "atss_centerness.weight" in head
    keys: dict[str, Any] = {
        "MODEL.FPN.OUT_CHANNELS": channels,
        "MODEL.CLQ.NUM_CLASSES": len(head[f"{kind}_cls.weight"]),
        "MODEL.CLQ.NUM_CONVS": len(norms),
        "MODEL.CLQ.NUM_GROUPS": num_groups_of_mmdet(meta) or _usual_groups(channels),
        "MODEL.CLQ.BOX_CODING": "deltas" if codes == 4 else "distribution",
        "MODEL.CLQ.QUALITY": (
            "localization" if localization else "centerness" if centerness else "none"
        ),
        "MODEL.CLQ.ALIGNMENT": offset is not None,
        "MODEL.CLQ.CLASS_LOSS": "focal" if kind == "atss" else "quality_focal",
        # The base of the released head keeps all classes of an anchor, later releases pairs.
        "MODEL.CLQ.CANDIDATE_RULE_TEST": "anchors" if kind == "clq" else "pairs",
    }
    if codes != 4:
        keys["MODEL.CLQ.REG_MAX"] = codes // 4 - 1
    if offset is not None:
        keys["MODEL.CLQ.OFFSET_GROUPS"] = len(offset) // 18
    return keys


def _usual_groups(channels: int) -> int:
    """Groups of a GroupNorm that the checkpoint does not state: 32, of at least 2 channels each."""
    return math.gcd(32, channels) if channels >= 64 else max(channels // 4, 1)
