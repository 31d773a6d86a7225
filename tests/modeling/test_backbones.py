"""Pyramids over ResNet and over torchvision's networks."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, ModulatedDeformConv, ShapeSpec
from detectron2.modeling import build_backbone, build_resnet_backbone

from clq.config import get_clq_cfg
from clq.modeling.backbones import (
    LastLevelP6P7NoReLU,
    OnePassFrozenBatchNorm2d,
    TorchvisionDeformConv,
    TorchvisionFeatures,
)
from clq.modeling.deform_conv import deform_conv2d_by_grid_sample
from reference.tiny import CONFIG, MODEL_KEYS

NETWORKS = {
    "mobilenet_v2": ["features.6", "features.13", "features.18"],
    "regnet_x_400mf": ["trunk_output.block2", "trunk_output.block3", "trunk_output.block4"],
    "resnet18": ["layer2", "layer3", "layer4"],
}


def config(name: str, nodes: list[str], **keys):
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.MODEL.BACKBONE.NAME = "build_torchvision_fpn_backbone"
    cfg.MODEL.TORCHVISION.NAME = name
    cfg.MODEL.TORCHVISION.OUT_NODES = nodes
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    return cfg


def resnet_config(**keys):
    """A ResNet-50 of few channels."""
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(CONFIG))
    small = {key: value for key, value in MODEL_KEYS.items() if "RESNETS" in key or "FPN" in key}
    keys = {**small, "MODEL.RESNETS.NORM": "FrozenBN", **keys}
    cfg.merge_from_list([item for pair in keys.items() for item in pair])
    return cfg


@pytest.mark.parametrize("norm, count", (("FrozenBN", 53), ("BN", 11)))
def test_every_frozen_norm_of_a_backbone_takes_one_pass(norm, count):
    """With trained norms, those of the stem and the first stage alone are frozen."""
    backbone = build_backbone(resnet_config(**{"MODEL.RESNETS.NORM": norm}))
    frozen = [m for m in backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(frozen) == count and {type(m) for m in frozen} == {OnePassFrozenBatchNorm2d}


DEFORMABLE = {"MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True]}


@pytest.mark.parametrize("modulated", (False, True))
@pytest.mark.parametrize("groups", (1, 4))
def test_deformable_stages_have_detectron2_s_names_and_run_without_its_operators(modulated, groups):
    keys = {"MODEL.RESNETS.DEFORM_MODULATED": modulated, "MODEL.RESNETS.NUM_GROUPS": groups}
    cfg = resnet_config(**DEFORMABLE, **keys)
    bottom_up = build_backbone(cfg).bottom_up
    theirs = build_resnet_backbone(cfg, ShapeSpec(channels=3)).state_dict()
    ours = bottom_up.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert sum("conv2_offset.weight" in name for name in ours) == 4 + 6 + 3
    maps = bottom_up(torch.randn(1, 3, 64, 96))
    sum(x.sum() for x in maps.values()).backward()
    grad = bottom_up.res5[0].conv2_offset.weight.grad
    assert grad is not None and grad.isfinite().all()


def test_a_modulated_stage_starts_as_half_a_plain_one():
    """Offsets start at 0 and masks at sigmoid(0) = 1/2, so that the 3x3 convolution is halved."""
    keys = {"MODEL.RESNETS.DEFORM_MODULATED": True}
    block = build_backbone(resnet_config(**DEFORMABLE, **keys)).bottom_up.res4[0].eval()
    x = torch.randn(1, block.in_channels, 9, 11)
    inner = block.conv1(x).relu()
    halved = torch.nn.functional.conv2d(inner, block.conv2.weight, stride=2, padding=1) / 2
    expected = block.conv3(block.conv2.norm(halved).relu()) + block.shortcut(x)
    torch.testing.assert_close(block(x), expected.relu(), rtol=1e-4, atol=1e-5)


def test_offsets_and_masks_act_as_in_the_plain_form():
    """A mask that is the same at every cell scales the weight of its tap."""
    norm, weight = torch.nn.Identity(), torch.randn(5, 6, 3, 3)
    theirs = ModulatedDeformConv(6, 5, kernel_size=3, padding=1, bias=False, norm=norm)
    theirs.weight.data.copy_(weight)
    conv = TorchvisionDeformConv(theirs)
    x, offset = torch.randn(2, 6, 7, 9), 2 * torch.randn(2, 18, 7, 9)
    plain = deform_conv2d_by_grid_sample(x, offset, weight, padding=1)
    torch.testing.assert_close(conv(x, offset), plain, rtol=1e-4, atol=1e-4)
    mask = torch.rand(9)
    scaled_weight = weight * mask.view(3, 3)
    scaled = deform_conv2d_by_grid_sample(x, offset, scaled_weight, padding=1)
    masks = mask.view(1, 9, 1, 1).expand(2, 9, 7, 9)
    torch.testing.assert_close(conv(x, offset, masks), scaled, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("modulated", (False, True))
def test_another_operator_replaces_torchvision_s(modulated):
    """Over strides 1 and 2, groups of channels and of offsets."""
    keys = {"MODEL.RESNETS.DEFORM_MODULATED": modulated, "MODEL.RESNETS.NUM_GROUPS": 4}
    keys["MODEL.RESNETS.DEFORM_NUM_GROUPS"] = 2
    bottom_up = build_backbone(resnet_config(**DEFORMABLE, **keys)).bottom_up.eval()
    for name, parameter in bottom_up.named_parameters():
        if "conv2_offset" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 3, 64, 96)
    expected = bottom_up(x)
    convs = [m for m in bottom_up.modules() if isinstance(m, TorchvisionDeformConv)]
    calls = []

    def form(*args, **options):
        calls.append(options["stride"])
        return deform_conv2d_by_grid_sample(*args, **options)

    for conv in convs:
        conv.form = form
    for level, feature in bottom_up(x).items():
        torch.testing.assert_close(feature, expected[level], rtol=1e-3, atol=1e-3)
    assert len(calls) == len(convs) == 13 and len(set(calls)) == 2


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@pytest.mark.parametrize("modulated", (False, True))
def test_deformable_stages_run_in_half_precision(dtype, modulated):
    keys = {"MODEL.RESNETS.DEFORM_MODULATED": modulated}
    bottom_up = build_backbone(resnet_config(**DEFORMABLE, **keys)).bottom_up
    x = torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", dtype=dtype):
        mixed = bottom_up(x)
    for level, feature in bottom_up(x).items():
        assert (mixed[level].float() - feature).norm() < 0.1 * feature.norm()
    sum(feature.float().sum() for feature in mixed.values()).backward()


def test_affine_of_norms_trains_above_the_frozen_stages_and_statistics_stay():
    frozen = build_backbone(resnet_config(**{"MODEL.BACKBONE.FREEZE_AT": 2}))
    keys = {"MODEL.BACKBONE.FREEZE_AT": 2, "MODEL.RESNETS.TRAIN_NORM_AFFINE": True}
    backbone = build_backbone(resnet_config(**keys)).train()
    bottom_up = backbone.bottom_up
    missing, unexpected = backbone.load_state_dict(frozen.state_dict(), strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    norm = bottom_up.res3[0].conv1.norm
    statistics = norm.running_mean.clone(), norm.running_var.clone()
    x = torch.randn(2, 3, 64, 64)
    maps = backbone(x)
    for level, feature in frozen(x).items():
        torch.testing.assert_close(maps[level], feature)
    sum(feature.sum() for feature in maps.values()).backward()
    assert torch.equal(norm.running_mean, statistics[0])
    assert torch.equal(norm.running_var, statistics[1])
    trained = {n for n, p in bottom_up.named_parameters() if p.grad is not None and "norm" in n}
    assert {name.split(".")[0] for name in trained} == {"res3", "res4", "res5"}
    assert {name.rpartition(".")[2] for name in trained} == {"weight", "bias"}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_feature_extractor_carries_a_pyramid(name):
    backbone = build_backbone(config(name, NETWORKS[name])).eval()
    with torch.no_grad():
        pyramid = backbone(torch.randn(1, 3, 96, 160))
    shapes = backbone.output_shape()
    assert list(pyramid) == ["p3", "p4", "p5", "p6", "p7"]
    for level, feature in pyramid.items():
        stride = shapes[level].stride
        assert feature.shape == (1, 8, -(-96 // stride), -(-160 // stride))
    assert backbone.size_divisibility == 32


def test_the_last_levels_learn_from_maps_of_one_cell_in_half_precision():
    """A gradient that nobody wrote shows in some tries, since freed memory may hold anything."""
    block = LastLevelP6P7NoReLU(64)
    for _ in range(10):
        block.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            p6, p7 = block(torch.ones(2, 64, 1, 1, dtype=torch.bfloat16))
        freed = [torch.full((64 * 64 * 9,), torch.nan, dtype=torch.bfloat16) for _ in range(3)]
        del freed
        (p6.sum() + p7.sum()).backward()
        for name, weight in block.named_parameters():
            assert weight.grad.isfinite().all(), name


def test_p7_is_linear_in_p6():
    block = LastLevelP6P7NoReLU(4)
    p5 = torch.randn(1, 4, 8, 8)
    p6, p7 = block(p5)
    assert (p6 < 0).any()
    torch.testing.assert_close(p7, block.p7(p6))


def test_frozen_layers_and_norms_do_not_train():
    names = ["features.0", "features.1"]
    body = TorchvisionFeatures("mobilenet_v2", NETWORKS["mobilenet_v2"], frozen_layers=names).body
    trained = {name.rpartition(".")[0] for name, p in body.named_parameters() if p.requires_grad}
    assert trained and not any(name.startswith(tuple(f"{n}." for n in names)) for name in trained)
    norms = [m for m in body.modules() if "BatchNorm" in type(m).__name__]
    assert norms and all(isinstance(m, FrozenBatchNorm2d) for m in norms)


def test_norms_may_be_trained():
    body = TorchvisionFeatures("resnet18", NETWORKS["resnet18"], freeze_norm=False).body
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in body.modules())


@pytest.mark.parametrize(
    ("name", "nodes", "keys", "sentence"),
    [
        ("mobilenet_v9", ["a"], {}, "NAME is 'mobilenet_v9', which torchvision does not have"),
        ("resnet18", ["layer9"], {}, "layer9"),
        (
            "resnet18",
            NETWORKS["resnet18"],
            {"MODEL.TORCHVISION.FROZEN_LAYERS": ["fc"]},
            "FROZEN_LAYERS has 'fc', which is no layer of resnet18",
        ),
        (
            "resnet18",
            ["layer1", "layer2", "layer3"],
            {},
            "IN_FEATURES names res5, but the backbone gives res2, res3, res4",
        ),
    ],
)
def test_a_missing_name_is_reported(name, nodes, keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_backbone(config(name, nodes, **keys))


def test_maps_with_the_channels_last_are_turned():
    """As of Swin, whose maps are (N, H, W, C)."""
    nodes = ["features.3", "features.5", "features.7"]
    backbone = TorchvisionFeatures("swin_t", nodes, freeze_norm=False).eval()
    shapes = backbone.output_shape()
    assert [(s.channels, s.stride) for s in shapes.values()] == [(192, 8), (384, 16), (768, 32)]
    found = backbone(torch.zeros(2, 3, 96, 64))
    assert [tuple(x.shape) for x in found.values()] == [
        (2, 192, 12, 8),
        (2, 384, 6, 4),
        (2, 768, 3, 2),
    ]


@pytest.mark.parametrize(
    "name, nodes, told",
    (
        ("vit_b_16", ["encoder"], "vit_b_16', which does not take images of any size"),
        ("mobilenet_v2", ["flatten"], "OUT_NODES has 'flatten', whose output .* is no feature map"),
        ("swin_t", ["flatten"], "OUT_NODES has 'flatten', whose output .* is no feature map"),
    ),
)
def test_networks_and_nodes_without_feature_maps_are_refused(
    name: str, nodes: list[str], told: str
):
    with pytest.raises(ValueError, match=told):
        TorchvisionFeatures(name, nodes)
