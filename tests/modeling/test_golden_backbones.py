"""Backbone and pyramid against the reference arrays."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from torch import Tensor, nn

from clq.checkpoint.mmdet_names import name_of_mmdet
from clq.config import get_clq_cfg
from clq.modeling.backbones import LastLevelP6P7NoReLU, build_clq_resnet_fpn_backbone
from reference.golden import golden

RELATIVE = 1e-4


def build_r50(arrays: dict[str, Tensor]) -> nn.Module:
    width = int(arrays["base_channels"])
    cfg = get_clq_cfg()
    cfg.merge_from_file("configs/COCO-Detection/clq_R_50_FPN_1x.yaml")
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = width
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = width
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 4 * width
    cfg.MODEL.FPN.OUT_CHANNELS = int(arrays["out_channels"])
    return build_clq_resnet_fpn_backbone(cfg, ShapeSpec(channels=3))


def build_r18(arrays: dict[str, Tensor]) -> nn.Module:
    """By hand, since Detectron2's builder gives R-18 one width only."""
    width, channels = int(arrays["base_channels"]), int(arrays["out_channels"])
    stages, in_channels = [], width
    for stage in range(4):
        out_channels = width * 2**stage
        blocks = ResNet.make_stage(
            BasicBlock,
            2,
            stride_per_block=[1 if stage == 0 else 2, 1],
            in_channels=in_channels,
            out_channels=out_channels,
            norm="FrozenBN",
        )
        stages.append(blocks)
        in_channels = out_channels
    names = ["res3", "res4", "res5"]
    stem = BasicStem(out_channels=width, norm="FrozenBN")
    return FPN(
        ResNet(stem, stages, out_features=names),
        names,
        channels,
        top_block=LastLevelP6P7NoReLU(channels),
    )


@pytest.mark.parametrize("name, build", (("r18", build_r18), ("r50", build_r50)))
def test_golden_pyramid(name, build):
    arrays = golden(f"fpn_{name}_base8")
    backbone = build(arrays).eval()
    state = {
        name_of_mmdet(key[3:]).removeprefix("backbone."): value
        for key, value in arrays.items()
        if key.startswith("sd.") and not key.endswith("num_batches_tracked")
    }
    backbone.load_state_dict(state)
    with torch.no_grad():
        bottom_up = backbone.bottom_up(arrays["image"])
        pyramid = backbone(arrays["image"])
    features = {f"c{i}": bottom_up[f"res{i}"] for i in (3, 4, 5)} | pyramid
    for key, actual in features.items():
        expected = arrays[key]
        assert actual.shape == expected.shape
        assert (actual - expected).abs().max() <= RELATIVE * expected.abs().max(), key
    with_relu = arrays["NOT_REFERENCE_p7_with_relu_before_conv"]
    assert (features["p7"] - with_relu).abs().max() > 0.1 * with_relu.abs().max()
