"""The fast detector against the original."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from clq.modeling import fast_inference_model
from clq.modeling.backbones import TorchvisionDeformConv
from clq.modeling.fast_inference import cpu_supports_bf16
from reference.members import build

TORCHVISION = {"MODEL.BACKBONE.NAME": "build_torchvision_fpn_backbone"}
# Backbones: norms of Detectron2's convolutions, frozen or not, modules of a traced network, frozen
# or not, and deformable stages, whose norms stay.
BACKBONES = {
    "frozen": {"MODEL.RESNETS.NORM": "FrozenBN"},
    "batch norm": {"MODEL.RESNETS.NORM": "BN"},
    "torchvision": TORCHVISION,
    "torchvision batch norm": {**TORCHVISION, "MODEL.TORCHVISION.FREEZE_NORM": False},
    # Layers other than convolutions, and parameters beside layers.
    "convnext": {
        **TORCHVISION,
        "MODEL.TORCHVISION.NAME": "convnext_tiny",
        "MODEL.TORCHVISION.OUT_NODES": ["features.3", "features.5", "features.7"],
    },
    "deformable": {
        "MODEL.RESNETS.NORM": "FrozenBN",
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
    },
}
NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)


def with_statistics(model: nn.Module) -> nn.Module:
    """In evaluation mode, with norms that do something."""
    generator = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, NORMS):
            for tensor, low in ((norm.running_var, 0.5), (norm.weight, 0.5)):
                tensor.data.copy_(low + torch.rand(tensor.shape, generator=generator))
            for tensor in (norm.running_mean, norm.bias):
                tensor.data.copy_(torch.randn(tensor.shape, generator=generator) / 10)
    return model.eval()


def maps_of(model: nn.Module) -> list[torch.Tensor]:
    """Predictions of the head for an image, each kind with all levels in a row."""
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(2)) - 0.5
    with torch.no_grad():
        features = model.backbone(image)
        predictions = model.head([features[name] for name in model.head_in_features])
    return [torch.cat([x.flatten() for x in maps]) for maps in predictions if maps is not None]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_folding_norms_changes_nothing(backbone: str):
    model = with_statistics(build("clq", **BACKBONES[backbone]))
    fast = fast_inference_model(model, bf16=False)
    for actual, expected in zip(maps_of(fast), maps_of(model), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    left = [norm for norm in fast.modules() if isinstance(norm, NORMS)]
    deformable = [m for m in fast.modules() if isinstance(m, TorchvisionDeformConv)]
    assert len(left) == len(deformable) and bool(left) == (backbone == "deformable")


def test_the_detector_that_it_is_made_of_stays_as_it_is():
    model = with_statistics(build("clq")).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = fast_inference_model(model, bf16=True)
    assert model.training and not fast.training
    assert all(p.requires_grad for p in model.parameters()) and not any(
        p.requires_grad for p in fast.parameters()
    )
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("member", ("clq", "atss", "gfl", "atss_clq_align"))
@pytest.mark.parametrize("backbone", BACKBONES)
def test_bf16_is_close(backbone: str, member: str):
    """All to a few of their roundings, 2^-8 each; the offsets' convolution stays as it is."""
    model = with_statistics(build(member, **BACKBONES[backbone]))
    fast = fast_inference_model(model, bf16=True)
    for actual, expected in zip(maps_of(fast), maps_of(model), strict=True):
        assert actual.dtype == torch.bfloat16
        error = (actual.float() - expected).abs().max() / expected.abs().max()
        assert error < 12 / 256
    if fast.head.alignment is not None:
        assert fast.head.alignment.offset.weight.dtype == torch.float32


def test_detections_are_in_full_precision_and_close():
    model = with_statistics(build("clq", **{"MODEL.CLQ.NMS_THRESH_TEST": 1.0}))
    image = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(2)) * 255
    with torch.no_grad():
        (expected,), (found,) = (
            detector([{"image": image}])
            for detector in (model, fast_inference_model(model, bf16=True))
        )
    found, expected = found["instances"], expected["instances"]
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32
    assert len(found) == len(expected) > 20
    torch.testing.assert_close(found.scores, expected.scores, rtol=0.05, atol=0)


def test_convolutions_are_channels_last():
    fast = fast_inference_model(build("clq"))
    for module in fast.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_another_device_raises():
    with pytest.raises(ValueError, match="is for CPU, but the detector is on meta"):
        fast_inference_model(build("clq").to("meta"))


@pytest.mark.parametrize("name, expected", [("avx512_bf16", True), ("avx2", False)])
def test_bf16_is_the_default_where_the_cpu_supports_it(monkeypatch, name: str, expected: bool):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True}, raising=False)
    assert cpu_supports_bf16() is expected
    weight = fast_inference_model(build("clq")).head.cls_score.weight
    assert (weight.dtype == torch.bfloat16) is expected
