"""Pyramids over ResNet and over torchvision's networks."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone

from clq.config import get_clq_cfg
from clq.modeling.backbones import LastLevelP6P7NoReLU, TorchvisionFeatures
from reference.tiny import CONFIG

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
def test_what_is_not_there_is_named(name, nodes, keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_backbone(config(name, nodes, **keys))
