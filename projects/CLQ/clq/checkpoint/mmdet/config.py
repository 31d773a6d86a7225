"""Infer the configuration of a mmdetection detector from the shapes of its tensors."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor

from ...config import get_clq_cfg
from ..pixel_settings import IMAGENET_SETTINGS
from ..read_file import validate_tensor
from .meta import read_num_groups, read_pixel_settings

_LEVELS = ["res3", "res4", "res5"]
# Blocks of the four stages, and whether a block is a bottleneck, by depth.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


def infer_config(tensors: Mapping[str, Tensor], head: str, meta: Mapping[str, Any]) -> CfgNode:
    """Infer the configuration of the detector that a checkpoint was saved from; not frozen.

    Any tensor of a part shows that the part is there.

    Args:
        tensors: those for which CLQ has a place, under mmdetection's names.
        head: of :data:`names.HEADS`.
        meta: of the checkpoint; used where the tensors do not tell.

    Raises:
        ValueError: a tensor is missing that decides, or CLQ can't build the network.
    """
    keys = {
        **_resnet_keys(tensors),
        **_neck_and_head_keys(tensors, head, meta),
        **IMAGENET_SETTINGS,
        **read_pixel_settings(meta),
    }
    cfg = get_clq_cfg()
    cfg.MODEL.META_ARCHITECTURE = "CLQ"
    cfg.MODEL.BACKBONE.NAME = "build_clq_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = list(_LEVELS)
    cfg.MODEL.FPN.IN_FEATURES = list(_LEVELS)
    cfg.merge_from_list([part for item in keys.items() for part in item])
    return cfg


def _resnet_keys(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = [_count(tensors, rf"backbone\.layer{stage}\.(\d+)\.") for stage in range(1, 5)]
    bottleneck = any(re.match(r"backbone\.layer\d\.\d+\.(conv|bn)3\.", name) for name in tensors)
    depth = _DEPTHS.get((tuple(stages), bottleneck))
    if depth is None:
        kind = "bottleneck" if bottleneck else "basic"
        raise ValueError(f"its backbone is no ResNet that CLQ builds: {kind} blocks {stages}.")
    conv2 = _kernel(tensors, "backbone.layer1.0.conv2.weight")
    last = _kernel(tensors, f"backbone.layer1.0.conv{3 if bottleneck else 2}.weight")
    keys: dict[str, Any] = {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": len(_kernel(tensors, "backbone.conv1.weight")),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": len(last),
    }
    deformable = _deformable_keys(tensors)
    if bottleneck:
        groups, width = max(conv2.shape[0] // conv2.shape[1], 1), conv2.shape[1]
        keys |= {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": width}
    elif len(last) != 64 or deformable:
        raise ValueError(
            f"its backbone is a ResNet-{depth} of width {len(last)}"
            f"{' with deformable stages' if deformable else ''}, but Detectron2 builds one of "
            "width 64 without deformable stages only."
        )
    return keys | deformable


def _kernel(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """The weight of a convolution, from whose shape a key is read."""
    if name not in tensors:
        raise ValueError(f"the tensor {name} is missing.")
    validate_tensor(name, tensors[name], dims=4)
    return tensors[name]


def _count(names: Iterable[str], pattern: str) -> int:
    """One more than the largest index of a list of modules; 0 if there is none."""
    found = (re.match(pattern, name) for name in names)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _deformable_keys(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keys of the deformable stages; none without such a stage."""
    pattern = re.compile(
        r"backbone\.layer(\d)\.\d+\.conv2(?:\.conv_offset|_offset)\.(?:weight|bias)"
    )
    offsets = {name: f[1] for name in tensors if (f := pattern.fullmatch(name))}
    if not offsets:
        return {}
    outputs = {tensors[name].shape[:1].numel() for name in offsets}
    if len(outputs) > 1:
        raise ValueError("its deformable stages differ in kind, which CLQ can't build.")
    # Nine taps have two offsets each, and a mask where the convolution is modulated.
    (channels,) = outputs
    if channels < 18 or (channels % 27 and channels % 18):
        raise ValueError(
            f"the tensor {next(iter(offsets))} has {channels} channels, but offsets of nine taps "
            "have a multiple of 18, or of 27 with masks."
        )
    modulated = channels % 27 == 0
    return {
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [str(n) in offsets.values() for n in range(1, 5)],
        "MODEL.RESNETS.DEFORM_MODULATED": modulated,
        "MODEL.RESNETS.DEFORM_NUM_GROUPS": channels // (27 if modulated else 18),
    }


def _neck_and_head_keys(
    tensors: Mapping[str, Tensor], head: str, meta: Mapping[str, Any]
) -> dict[str, Any]:
    def has(part: str) -> bool:
        return any(name.startswith(f"bbox_head.{part}.") for name in tensors)

    channels = len(_kernel(tensors, "neck.fpn_convs.0.conv.weight"))
    codes = len(_kernel(tensors, f"bbox_head.{head}_reg.weight"))
    if codes % 4 or codes == 8:
        raise ValueError(
            f"the tensor bbox_head.{head}_reg.weight has {codes} channels, but boxes have 4, or "
            "4 distributions of at least 3 bins."
        )
    num_convs = _count(tensors, r"bbox_head\.(?:cls|reg)_convs\.(\d+)\.")
    if num_convs > len(tensors):
        raise ValueError(f"the tensors of bbox_head.cls_convs count up to {num_convs - 1}.")
    quality = "localization" if has("retina_iou") else "none"
    # Groups of a GroupNorm are mostly 32, of at least 2 channels each.
    usual_groups = math.gcd(32, channels) if channels >= 64 else max(channels // 4, 1)
    keys: dict[str, Any] = {
        "MODEL.FPN.OUT_CHANNELS": channels,
        "MODEL.CLQ.NUM_CLASSES": len(_kernel(tensors, f"bbox_head.{head}_cls.weight")),
        "MODEL.CLQ.NUM_CONVS": num_convs,
        "MODEL.CLQ.NUM_GROUPS": read_num_groups(meta) or usual_groups,
        "MODEL.CLQ.BOX_CODING": "deltas" if codes == 4 else "distribution",
        "MODEL.CLQ.QUALITY": "centerness" if has("atss_centerness") else quality,
        "MODEL.CLQ.ALIGNMENT": has("feature_alignment.conv_offset")
        or has("feature_alignment.conv_adaption"),
        "MODEL.CLQ.CLASS_LOSS": "focal" if head == "atss" else "quality_focal",
        # The base of the released head keeps all classes of an anchor, later releases pairs.
        "MODEL.CLQ.CANDIDATE_RULE_TEST": "anchors" if head == "clq" else "pairs",
    }
    if codes != 4:
        keys["MODEL.CLQ.REG_MAX"] = codes // 4 - 1
    if keys["MODEL.CLQ.ALIGNMENT"]:
        offset = _kernel(tensors, "bbox_head.feature_alignment.conv_offset.weight")
        keys["MODEL.CLQ.OFFSET_GROUPS"] = max(len(offset) // 18, 1)
    return keys
