"""Backbone and pyramid against the reference arrays."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from torch import Tensor, nn

from clq.checkpoint.mmdet.names import from_mmdet_name
from clq.config import get_clq_cfg
from clq.modeling.backbones import LastLevelP6P7NoReLU, build_clq_resnet_fpn_backbone
from reference.golden import golden, golden_names

RELATIVE = 1e-4
BASIC_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # of each stage, by depth


def build_of_bottlenecks(arrays: dict[str, Tensor]) -> nn.Module:
    width = int(arrays["base_channels"])
    cfg = get_clq_cfg()
    cfg.merge_from_file("configs/COCO-Detection/clq_R_50_FPN_1x.yaml")
    cfg.MODEL.RESNETS.DEPTH = int(arrays["depth"])
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = width
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = width
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 4 * width
    cfg.MODEL.FPN.OUT_CHANNELS = int(arrays["out_channels"])
    return build_clq_resnet_fpn_backbone(cfg, ShapeSpec(channels=3))


def build_of_basic_blocks(arrays: dict[str, Tensor]) -> nn.Module:
    """Built by hand, since Detectron2's builder gives these one width only."""
    width, channels = int(arrays["base_channels"]), int(arrays["out_channels"])
    stages, in_channels = [], width
    for stage, num_blocks in enumerate(BASIC_BLOCKS[int(arrays["depth"])]):
        out_channels = width * 2**stage
        blocks = ResNet.make_stage(
            BasicBlock,
            num_blocks,
            stride_per_block=[1 if stage == 0 else 2] + [1] * (num_blocks - 1),
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


@pytest.mark.parametrize("name", golden_names("fpn_*"))
def test_golden_pyramid(name):
    arrays = golden(name)
    is_basic = int(arrays["depth"]) in BASIC_BLOCKS
    build = build_of_basic_blocks if is_basic else build_of_bottlenecks
    backbone = build(arrays).eval()
    state = {
        from_mmdet_name(key[3:]).removeprefix("backbone."): value
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
    assert (features["p7"] - with_relu).abs().max() > RELATIVE * with_relu.abs().max()
