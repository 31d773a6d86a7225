"""Configurations inferred from tensors: the one that built them comes back."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from clq.checkpoint.mmdet.config import infer_config
from reference.mmdet_style import FAMILY, mmdet_state, small_config

RESNEXT = {"MODEL.RESNETS.NUM_GROUPS": 4, "MODEL.RESNETS.WIDTH_PER_GROUP": 1}
DEFORMABLE = {
    **RESNEXT,
    "MODEL.RESNETS.DEPTH": 101,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, True, True],
    "MODEL.RESNETS.DEFORM_MODULATED": True,
}
PLAIN_DEFORMABLE = {
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": 2,
}
R18 = {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}
OTHER_HEAD = {
    "MODEL.CLQ.REG_MAX": 7,
    "MODEL.CLQ.NUM_CLASSES": 2,
    "MODEL.CLQ.NUM_CONVS": 3,
    "MODEL.CLQ.OFFSET_GROUPS": 2,
    "MODEL.FPN.OUT_CHANNELS": 64,
}
# What neither tensors nor a silent meta tell, and what inference does not need.
UNTOLD = ("NUM_GROUPS", "CANDIDATE_RULE_TEST")


@pytest.mark.parametrize("head", FAMILY)
@pytest.mark.parametrize(
    "keys",
    [{}, RESNEXT, DEFORMABLE, PLAIN_DEFORMABLE, R18, OTHER_HEAD],
    ids=["r50", "resnext", "deformable", "plain deformable", "r18", "other head"],
)
def test_the_config_comes_back(head: str, keys: dict[str, Any]):
    cfg = small_config({**keys, **FAMILY[head]})
    state = mmdet_state(build_model(cfg), head)
    if head == "clq":  # the converter drops the spare class before
        for kind in ("weight", "bias"):
            state[f"bbox_head.clq_cls.{kind}"] = state[f"bbox_head.clq_cls.{kind}"][:-1]
    if head != "clq":
        cfg.MODEL.CLQ.OFFSET_GROUPS = 4
    if head == "atss":
        cfg.MODEL.CLQ.REG_MAX = 16
    found = infer_config(state, head, {})
    assert found.MODEL.CLQ.NUM_GROUPS == (32 if cfg.MODEL.FPN.OUT_CHANNELS == 64 else 8)
    assert found.MODEL.CLQ.CANDIDATE_RULE_TEST == ("anchors" if head == "clq" else "pairs")
    for node in (cfg, found):
        for key in UNTOLD:
            del node.MODEL.CLQ[key]
    if cfg.MODEL.RESNETS.DEPTH == 18:
        cfg.MODEL.RESNETS.WIDTH_PER_GROUP = found.MODEL.RESNETS.WIDTH_PER_GROUP
    for section in ("CLQ", "RESNETS", "FPN", "BACKBONE"):
        assert found.MODEL[section] == cfg.MODEL[section], section
    assert found.MODEL.PIXEL_MEAN == cfg.MODEL.PIXEL_MEAN
    assert found.INPUT.FORMAT == "RGB"


def test_what_is_stated_beside_goes_before():
    cfg = small_config(FAMILY["gfl"])
    text = "a = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=False)\nb = dict(style='caffe')"
    text += "\nc = dict(type='GN', num_groups=16)"
    found = infer_config(mmdet_state(build_model(cfg), "gfl"), "gfl", {"config": text})
    assert (found.INPUT.FORMAT, found.MODEL.PIXEL_MEAN) == ("BGR", [1.0, 2.0, 3.0])
    assert found.MODEL.RESNETS.STRIDE_IN_1X1 and found.MODEL.CLQ.NUM_GROUPS == 16


def basic_blocks(width: int, deformable: bool = False) -> dict[str, torch.Tensor]:
    state = {"backbone.conv1.weight": torch.ones(64, 3, 7, 7)}
    for layer in range(1, 5):
        for block in range(2):
            for conv in (1, 2):
                name = f"backbone.layer{layer}.{block}.conv{conv}.weight"
                state[name] = torch.ones(width, width, 1, 1)
    if deformable:
        state["backbone.layer4.0.conv2.conv_offset.weight"] = torch.ones(27, width, 1, 1)
    return state


def gfl_state(cfg: CfgNode | None = None) -> dict[str, torch.Tensor]:
    return mmdet_state(build_model(cfg or small_config(FAMILY["gfl"])), "gfl")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (basic_blocks(16), "ResNet-18 of width 16, but Detectron2 builds one of width 64"),
        (basic_blocks(64, True), "ResNet-18 of width 64 with deformable stages, but"),
        ({}, r"no ResNet that CLQ builds: basic blocks \[0, 0, 0, 0\]"),
    ],
)
def test_backbones_that_can_not_be_built(state: dict[str, torch.Tensor], message: str):
    with pytest.raises(ValueError, match=message):
        infer_config(state, "gfl", {})


def test_tensors_that_decide_must_be_there():
    for name in ("backbone.conv1.weight", "neck.fpn_convs.0.conv.weight"):
        state = gfl_state()
        del state[name]
        with pytest.raises(ValueError, match=f"the tensor {name} is missing"):
            infer_config(state, "gfl", {})


def test_deformable_stages_of_different_kinds_are_refused():
    state = gfl_state(small_config({**FAMILY["gfl"], **DEFORMABLE}))
    name = "backbone.layer4.0.conv2.conv_offset.weight"
    state[name] = state[name][:18]
    with pytest.raises(ValueError, match="deformable stages differ in kind"):
        infer_config(state, "gfl", {})
