"""Checkpoints such as mmdetection writes, made of our own models with names undone by hand.

Nothing of the converter is used here.
"""

import re
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from clq.config import get_clq_cfg
from reference.tiny import CONFIG

FAMILY: dict[str, dict[str, Any]] = {
    "clq": {},
    "gfl": {"MODEL.CLQ.QUALITY": "none", "MODEL.CLQ.ALIGNMENT": False},
    "atss": {
        "MODEL.CLQ.BOX_CODING": "deltas",
        "MODEL.CLQ.QUALITY": "centerness",
        "MODEL.CLQ.ALIGNMENT": False,
        "MODEL.CLQ.CLASS_LOSS": "focal",
    },
}
SMALL: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 2,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.CLQ.NUM_CONVS": 2,
    "MODEL.CLQ.NUM_GROUPS": 8,
    "MODEL.CLQ.NUM_CLASSES": 5,
}


def small_config(keys: dict[str, Any] | None = None) -> CfgNode:
    """A detector of a few channels, with ``keys`` before the defaults."""
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list([part for item in {**SMALL, **(keys or {})}.items() for part in item])
    return cfg


def random_detector(cfg: CfgNode, seed: int = 0) -> nn.Module:
    """A model whose every tensor is drawn, widely enough that something is detected."""
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("norm.weight", "scales")):
            tensor.uniform_(0.8, 1.2)
        elif tensor.dim() == 4:
            tensor.normal_(std=(2.0 / tensor[0].numel()) ** 0.5)
        else:
            tensor.normal_(std=0.1)
    model.head.cls_score.bias.data -= 3
    return model


def mmdet_state(model: nn.Module, head: str) -> dict[str, Tensor]:
    """The model's tensors under mmdetection's names.

    Args:
        model: a detector over a ResNet.
        head: ``clq``, which gets a silent spare class, ``gfl`` or ``atss``.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        if name == "head.scales":
            scales = {f"bbox_head.scales.{i}.scale": s.clone() for i, s in enumerate(tensor)}
            state.update(scales)
        else:
            state[_theirs(name, head)] = tensor.clone()
    for name in [name for name in state if name.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(3)
    if head == "clq":
        weight, bias = state["bbox_head.clq_cls.weight"], state["bbox_head.clq_cls.bias"]
        state["bbox_head.clq_cls.weight"] = torch.cat((weight, 0.1 * weight[:1]))
        state["bbox_head.clq_cls.bias"] = torch.cat((bias, torch.tensor([-12.0])))
    if head in ("clq", "gfl"):
        state["bbox_head.integral.project"] = torch.arange(17.0)
    return state


def _theirs(name: str, head: str) -> str:
    part, _, rest = name.partition(".")
    if part == "head":
        rest = rest.replace("bbox_subnet", "reg_convs").replace("cls_subnet", "cls_convs")
        rest = re.sub(r"(convs\.\d+)\.norm", r"\1.gn", rest)
        rest = re.sub(r"(convs\.\d+)\.weight", r"\1.conv.weight", rest)
        rest = rest.replace("cls_score", f"{head}_cls").replace("bbox_pred", f"{head}_reg")
        quality = "atss_centerness" if head == "atss" else "retina_iou"
        rest = rest.replace("quality.predictor", quality)
        rest = rest.replace("alignment.offset", "feature_alignment.conv_offset")
        rest = rest.replace("alignment.conv.", "feature_alignment.conv_adaption.")
        return f"bbox_head.{rest}"
    if not rest.startswith("bottom_up"):
        level = int(re.search(r"[34567]", rest)[0]) - 3
        kind = "lateral_convs" if "lateral" in rest else "fpn_convs"
        return f"neck.{kind}.{level}.conv.{rest.rpartition('.')[2]}"
    rest = rest.removeprefix("bottom_up.").removeprefix("stem.")
    rest = re.sub(r"res(\d)", lambda found: f"layer{int(found[1]) - 1}", rest)
    rest = rest.replace("conv2_offset", "conv2.conv_offset")
    rest = rest.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
    return "backbone." + re.sub(r"conv(\d)\.norm", r"bn\1", rest)
