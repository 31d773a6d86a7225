"""Pyramids over networks of timm, one of each family."""

import functools
import sys
from typing import Any

import pytest
import timm
import torch
from detectron2.modeling import build_backbone
from detectron2.structures import Boxes, Instances
from safetensors.torch import save_file
from torch import nn

from clq.checkpoint import CLQCheckpointer
from clq.engine.run_config.frozen_backbone import check_frozen_parts
from clq.modeling import CLQ, fast_inference_model
from clq.modeling.fast_inference import fold_norms
from clq.modeling.timm_backbone import SimplePyramid, TimmFeatures
from reference.members import build, member_config

# Model, and channels at strides 8, 16 and 32.
FAMILIES = {
    "ConvNeXt": ("test_convnext", [32, 48, 64]),
    "EfficientNet": ("test_efficientnet", [32, 48, 64]),
    "ResNet-D": ("resnet10t", [128, 256, 512]),
    "Swin": ("swin_tiny_patch4_window7_224", [192, 384, 768]),
    "ViT": ("test_vit3", [48, 96, 96]),
}
# torch.export does not come to an end over the sizes of windows.
EXPORTED = [name for name in FAMILIES if name != "Swin"]


def keys(name: str, **more: Any) -> dict[str, Any]:
    chosen = {"MODEL.BACKBONE.NAME": "build_timm_fpn_backbone", "MODEL.TIMM.NAME": name}
    return {**chosen, **{f"MODEL.TIMM.{key}": value for key, value in more.items()}}


def features(family: str, **options: Any) -> TimmFeatures:
    torch.manual_seed(0)
    return TimmFeatures(FAMILIES[family][0], **options).eval()


def detector(family: str, **more: Any) -> CLQ:
    return build("clq", **keys(FAMILIES[family][0], **more))


def image(height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_a_pyramid_of_any_size(family: str):
    bottom_up = features(family)
    for height, width in ((96, 160), (224, 32)):  # sides are no multiples of a window
        maps = bottom_up(image(height, width))
        assert [tuple(x.shape[1:]) for x in maps.values()] == [
            (channels, height // stride, width // stride)
            for channels, stride in zip(FAMILIES[family][1], (8, 16, 32), strict=True)
        ]
    assert [(s.channels, s.stride) for s in bottom_up.output_shape().values()] == [
        *zip(FAMILIES[family][1], (8, 16, 32))
    ]
    assert list(maps) == ["res3", "res4", "res5"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_a_step(family: str):
    model = detector(family, FREEZE_NORM=False, DROP_PATH_RATE=0.1).train()
    assert model.backbone.size_divisibility == 32
    gt = Instances((70, 90))
    gt.gt_boxes, gt.gt_classes = Boxes(torch.tensor([[8.0, 9, 70, 58]])), torch.tensor([0])
    sample = {"image": torch.rand(3, 70, 90) * 255, "instances": gt}
    torch.manual_seed(3)
    losses = model([sample, sample])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    kernels = [p for p in model.backbone.bottom_up.body.parameters() if p.dim() == 4]
    assert kernels[0].grad.any()  # of the stem, so that all layers pass a gradient on


@pytest.mark.parametrize("family", EXPORTED)
def test_features_are_exported_for_any_size(family: str):
    bottom_up = features(family)
    height, width = (32 * torch.export.Dim(side, min=2, max=40) for side in ("height", "width"))
    exported = torch.export.export(
        bottom_up, (image(128, 192),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    x = image(96, 160)
    for level, expected in bottom_up(x).items():
        torch.testing.assert_close(exported(x)[level], expected)


def test_features_of_swin_are_exported_for_one_size(monkeypatch):
    shallow = functools.partial(timm.create_model, depths=(1, 1, 1, 1))
    monkeypatch.setattr(timm, "create_model", shallow)
    bottom_up, x = features("Swin"), image(64, 96)
    exported = torch.export.export(bottom_up, (x,)).module()
    for level, expected in bottom_up(x).items():
        torch.testing.assert_close(exported(x)[level], expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_s_weights_fill_the_network(family: str, tmp_path):
    """The maps are those of timm's own, of the file's weights."""
    name = FAMILIES[family][0]
    torch.manual_seed(7)
    options = {"dynamic_img_size": True} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    classifier = timm.create_model(name, pretrained=False, **options).eval()
    for tensor in classifier.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand_like(tensor))  # statistics that do something, too
    tensors = classifier.state_dict()
    if family == "Swin":  # as earlier releases wrote
        tensors["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49).long()
    file = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    model = detector(family).eval()
    CLQCheckpointer(model).load(str(file), checkpointables=[])
    x = image(224, 224)
    found = model.backbone.bottom_up(x)["res4"]
    every = classifier.forward_intermediates(x, output_fmt="NCHW", intermediates_only=True)
    expected = [y for y in every if y.shape[2] == 14][-1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_weights_of_another_network_are_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_efficientnet", pretrained=False).state_dict(), file)
    with pytest.raises(ValueError, match=r"does not fit the model's backbone: missing tensors"):
        CLQCheckpointer(detector("ConvNeXt")).load(str(file), checkpointables=[])


@pytest.mark.parametrize("family", FAMILIES)
def test_fast_inference_is_close(family: str):
    model = detector(family).eval()
    x = image(64, 96)

    def maps_of(network: CLQ) -> torch.Tensor:
        with torch.no_grad():
            maps = network.backbone(x)
        return torch.cat([maps[level].float().flatten() for level in ("p3", "p4", "p5")])

    expected = maps_of(model)
    torch.testing.assert_close(
        maps_of(fast_inference_model(model, bf16=False)), expected, rtol=1e-3, atol=1e-4
    )
    error = (maps_of(fast_inference_model(model, bf16=True)) - expected).norm() / expected.norm()
    assert error < 0.05


def test_a_norm_with_an_activation_is_not_folded():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), timm.layers.BatchNormAct2d(4)).eval()
    expected = network(image())
    fold_norms(nn.ModuleList([network]))
    torch.testing.assert_close(network(image()), expected)


def test_frozen_norms_and_layers_do_not_train():
    model = detector("ResNet-D", FROZEN_LAYERS=["conv1", "layer1"]).train()
    body = model.backbone.bottom_up.body
    norms = [m for m in body.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(m.training or m.weight.requires_grad for m in norms)
    convs = {n for n, p in body.named_parameters() if p.dim() == 4 and not p.requires_grad}
    assert {name.split(".")[0] for name in convs} == {"conv1", "layer1"}
    before = body.bn1.running_mean.clone()
    model.backbone(image())
    assert torch.equal(body.bn1.running_mean, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_is_built_without_weights_to_see_what_is_frozen(family: str):
    """Those without batch norms have nothing that FREEZE_NORM holds."""
    cfg = member_config("clq", **keys(FAMILIES[family][0]))
    if family in ("EfficientNet", "ResNet-D"):
        with pytest.raises(ValueError, match="norms with fixed statistics"):
            check_frozen_parts(cfg, resume=False)
    else:
        check_frozen_parts(cfg, resume=False)


@pytest.mark.parametrize(
    "more, told",
    (
        ({}, "14 norms with fixed statistics"),
        ({"FREEZE_NORM": False, "FROZEN_LAYERS": ["layer1"]}, "frozen layer1"),
        ({"FREEZE_NORM": False}, None),
    ),
)
def test_frozen_random_parts_are_refused(more: dict[str, Any], told: str | None):
    cfg = member_config("clq", **keys("resnet10t", **more))
    if told is None:
        check_frozen_parts(cfg, resume=False)
        return
    with pytest.raises(ValueError, match=f"the backbone has {told}, .* MODEL.TIMM.FREEZE_NORM"):
        check_frozen_parts(cfg, resume=False)


def test_the_simple_pyramid_by_hand():
    pyramid = SimplePyramid(2)
    nn.init.ones_(pyramid.finer.weight), nn.init.zeros_(pyramid.finer.bias)
    x = torch.arange(8.0).view(1, 2, 2, 2)
    finer, same, coarser = pyramid(x)
    assert torch.equal(same, x) and coarser.flatten().tolist() == [3, 7]
    # Each cell is the sum of the channels, four times.
    assert finer[0, 0].tolist() == [[4, 4, 6, 6], [4, 4, 6, 6], [8, 8, 10, 10], [8, 8, 10, 10]]


@pytest.mark.parametrize(
    "name, more, told",
    (
        ("resnet50e", {}, "MODEL.TIMM.NAME is 'resnet50e', which timm .* does not have"),
        ("hf-hub:timm/resnet50d", {}, "which timm .* does not have"),
        ("test_maxvit", {}, r"takes? images of any size \(height .* must be divisible by window"),
        ("eva02_tiny_patch14_224", {}, "whose maps have stride 14; choose"),
        ("test_vit_relpos", {}, "does not take images of any size"),
        ("test_resnet", {"FROZEN_LAYERS": ["fc"]}, "has 'fc', which is no layer of test_resnet"),
        (
            "vgg11",
            {"DROP_PATH_RATE": 0.1},
            "can't be built with MODEL.TIMM.DROP_PATH_RATE 0.1",
        ),
    ),
)
def test_what_can_not_be_built_is_told(name: str, more: dict[str, Any], told: str):
    with pytest.raises(ValueError, match=told):
        build_backbone(member_config("clq", **keys(name, **more)))


def test_without_timm_a_sentence_tells_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed: run `pip install \"clq\[timm\]"):
        build_backbone(member_config("clq", **keys("resnet50d")))
    assert build("clq") is not None
