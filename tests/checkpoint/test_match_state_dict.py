"""Tensors matched to a model, and lists of those that do not match."""

import pytest
import torch
import torchvision
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from clq.checkpoint.match_state_dict import Match, match_state_dict
from clq.checkpoint.weights_file import WeightsFile
from clq.config import get_clq_cfg
from clq.modeling.backbones import build_clq_resnet_fpn_backbone, build_torchvision_fpn_backbone
from reference.mmdet_style import random_detector, small_config


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return dict(random_detector(small_config()).state_dict())


def fit_detector(
    tensors: dict[str, Tensor], model: dict[str, Tensor], change: bool = False
) -> Match:
    return match_state_dict(WeightsFile("detector", tensors), model, may_change_classes=change)


def test_a_detector_that_fits(state: dict[str, Tensor]):
    tensors = {**state, "backbone.bottom_up.stem.conv1.norm.num_batches_tracked": torch.tensor(1)}
    assert fit_detector(tensors, state) == Match(state, [])


def test_all_that_does_not_fit_is_listed(state: dict[str, Tensor]):
    tensors = {**state, "head.extra": torch.ones(1), "head.scales": torch.ones(4)}
    del tensors["head.bbox_pred.bias"], tensors["backbone.fpn_lateral3.weight"]
    with pytest.raises(ValueError) as error:
        fit_detector(tensors, state, change=True)
    assert str(error.value) == (
        "does not fit the model: "
        "missing tensors (2): backbone.fpn_lateral3.weight, head.bbox_pred.bias; "
        "tensors of another shape (1): head.scales (4,) for (5,); "
        "unknown tensors (1): head.extra."
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(5, dtype=torch.int64), "the tensor head.scales is of int64, not of floating"),
        (torch.full((5,), float("inf")), "the tensor head.scales has values that are not finite"),
        (torch.ones(5).to_sparse(), "the tensor head.scales is sparse"),
    ],
)
def test_values_that_are_no_weights(value: Tensor, message: str, state: dict[str, Tensor]):
    with pytest.raises(ValueError, match=f"can't be used: {message}"):
        fit_detector({**state, "head.scales": value}, state)


def test_a_table_of_indices_stays_one(state: dict[str, Tensor]):
    """As Swin has."""
    model = {**state, "backbone.bottom_up.body.index": torch.arange(3)}
    assert fit_detector(model, model) == Match(model, [])


def test_a_class_predictor_without_dimensions(state: dict[str, Tensor]):
    name = "head.cls_score.weight"
    with pytest.raises(ValueError, match=rf"{name} \(\) for \(5, 32, 3, 3\)"):
        fit_detector({**state, name: torch.tensor(1.0)}, state)


def test_another_class_count(state: dict[str, Tensor]):
    names = ("head.cls_score.weight", "head.cls_score.bias")
    tensors = {**state, **{name: state[name][:2] for name in names}}
    with pytest.raises(ValueError, match="has 2 classes, but the model has 5; only a training"):
        fit_detector(tensors, state)
    found = fit_detector(tensors, state, change=True)
    assert state.keys() - found.state.keys() == set(names)
    assert found.notes == [
        "The weights have 2 classes and the model 5: head.cls_score starts anew."
    ]


# ------------------------------------------------------------------------------------- backbones


def backbone_state(backbone: nn.Module) -> dict[str, Tensor]:
    model = nn.ModuleDict({"backbone": backbone, "head": nn.ModuleDict({"a": nn.Linear(1, 1)})})
    return dict(model.state_dict())


def resnet_config(**keys):
    cfg = get_clq_cfg()
    cfg.merge_from_file("configs/COCO-Detection/clq_R_50_FPN_1x.yaml")
    cfg.MODEL.RESNETS.update(keys)
    return cfg


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet18", {"DEPTH": 18, "RES2_OUT_CHANNELS": 64}),
        ("resnet50", {}),
        ("resnext50_32x4d", {"NUM_GROUPS": 32, "WIDTH_PER_GROUP": 4}),
    ],
)
def test_torchvision_weights_give_torchvision_features(name: str, keys: dict):
    torch.manual_seed(0)
    source = torchvision.models.get_model(name, weights=None).eval()
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    backbone = build_clq_resnet_fpn_backbone(resnet_config(**keys), ShapeSpec(channels=3)).eval()
    weights = WeightsFile("backbone", source.state_dict())
    found = match_state_dict(weights, backbone_state(backbone), may_change_classes=True)
    parts = {n.removeprefix("backbone."): value for n, value in found.state.items()}
    assert backbone.load_state_dict(parts, strict=False).unexpected_keys == []
    layers = {f"layer{i}": f"res{i + 1}" for i in (2, 3, 4)}
    trunk = create_feature_extractor(source, layers)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, actual = trunk(image), backbone.bottom_up(image)
    for level, feature in expected.items():
        torch.testing.assert_close(actual[level], feature, rtol=1e-4, atol=1e-5)
    new, left = found.notes
    assert "backbone.fpn_lateral3 (2)" in new and "head.a (2)" in new
    assert "bottom_up" not in new and left == "Not used of the file: fc (2)."


def test_offsets_of_deformable_stages_are_new():
    cfg = resnet_config(DEFORM_ON_PER_STAGE=[False, False, False, True])
    model = backbone_state(build_clq_resnet_fpn_backbone(cfg, ShapeSpec(channels=3)))
    weights = WeightsFile("backbone", torchvision.models.resnet50().state_dict())
    assert (
        "backbone.bottom_up (6)"
        in match_state_dict(weights, model, may_change_classes=True).notes[0]
    )


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, Tensor]:
    backbone = build_clq_resnet_fpn_backbone(resnet_config(), ShapeSpec(channels=3))
    return backbone_state(backbone)


def test_another_backbone_is_refused_with_the_names(resnet_state: dict[str, Tensor]):
    tensors = torchvision.models.resnet50().state_dict()
    tensors["conv1.0.weight"] = tensors.pop("conv1.weight")  # as timm's deep stems
    with pytest.raises(ValueError) as error:
        match_state_dict(WeightsFile("backbone", tensors), resnet_state, may_change_classes=True)
    assert str(error.value) == (
        "does not fit the model's backbone: missing tensors (1): "
        "backbone.bottom_up.stem.conv1.weight; unknown tensors (1): conv1.0.weight."
    )
    wide = WeightsFile("backbone", torchvision.models.resnext50_32x4d().state_dict())
    with pytest.raises(
        ValueError, match=r"\(there layer1.0.conv1.weight\) \(128, 64, 1, 1\) for \(64, 64"
    ):
        match_state_dict(wide, resnet_state, may_change_classes=True)


def test_more_blocks_than_the_model_has_are_refused(resnet_state: dict[str, Tensor]):
    deep = WeightsFile("backbone", torchvision.models.resnet101().state_dict())
    with pytest.raises(ValueError, match=r"unknown tensors \(255\): backbone.bottom_up.res4.6"):
        match_state_dict(deep, resnet_state, may_change_classes=True)


@pytest.mark.parametrize("folded", [False, True])
def test_zoo_weights_go_to_detectron2(folded: bool, resnet_state: dict[str, Tensor]):
    """Old files have the statistics of norms folded into the affine part."""
    prefix = "backbone.bottom_up."
    trunk = {n.removeprefix(prefix): v for n, v in resnet_state.items() if n.startswith(prefix)}
    tensors = {n: v for n, v in trunk.items() if not (folded and "running_" in n)}
    tensors["stem.fc.weight"] = torch.ones(2, 2)
    weights = WeightsFile("zoo", tensors, metadata={"author": "torchvision"})
    found = match_state_dict(weights, resnet_state, may_change_classes=True)
    assert len(found.state) == len(tensors) - 1
    assert found.notes[1] == "Not used of the file: stem.fc (1)."
    del tensors["res5.0.conv1.weight"]
    with pytest.raises(ValueError, match=r"missing tensors \(1\): .*res5.0.conv1.weight"):
        match_state_dict(weights, resnet_state, may_change_classes=True)


@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up."])
def test_more_blocks_of_a_zoo_are_refused(prefix: str, resnet_state: dict[str, Tensor]):
    own = "backbone.bottom_up."
    trunk = {prefix + n.removeprefix(own): t for n, t in resnet_state.items() if own in n}
    trunk[f"{prefix}res4.10.conv1.weight"] = torch.ones(1)
    weights = WeightsFile("zoo", trunk, metadata={"author": "torchvision"})
    with pytest.raises(ValueError, match=rf"unknown tensors \(1\): {prefix}res4.10.conv1.weight"):
        match_state_dict(weights, resnet_state, may_change_classes=True)


def test_a_zoo_file_that_nobody_can_rename(resnet_state: dict[str, Tensor]):
    tensors = {name: torch.tensor(1.0) for name in ("conv1_w", "bbox_pred_w")}
    weights = WeightsFile("zoo", tensors, metadata={"author": "Caffe2"})
    with pytest.raises(ValueError, match="does not fit"):
        match_state_dict(weights, resnet_state, may_change_classes=True)


def test_two_tensors_for_one_place(resnet_state: dict[str, Tensor]):
    tensors = torchvision.models.resnet50().state_dict()
    tensors["backbone.conv1.weight"] = tensors["conv1.weight"]
    with pytest.raises(ValueError, match=r"unknown tensors \(1\): backbone.conv1.weight\."):
        match_state_dict(WeightsFile("backbone", tensors), resnet_state, may_change_classes=True)


def test_integers_are_no_backbone(resnet_state: dict[str, Tensor]):
    tensors = torchvision.models.resnet50().state_dict()
    tensors["conv1.weight"] = tensors["conv1.weight"].int()
    with pytest.raises(ValueError, match="can't be used: the tensor conv1.weight is of int32"):
        match_state_dict(WeightsFile("backbone", tensors), resnet_state, may_change_classes=True)


@pytest.fixture(scope="module")
def extractor_state() -> dict[str, Tensor]:
    cfg = get_clq_cfg()
    cfg.merge_from_file("configs/Demo/Base-Demo.yaml")
    cfg.MODEL.TORCHVISION.NAME = "resnet50"
    cfg.MODEL.TORCHVISION.OUT_NODES = ["layer2", "layer3", "layer4"]
    cfg.MODEL.TORCHVISION.FROZEN_LAYERS = []
    return backbone_state(build_torchvision_fpn_backbone(cfg, ShapeSpec(channels=3)))


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("by_name", [False, True])
def test_a_resnet_as_extractor(prefix: str, by_name: bool, extractor_state: dict[str, Tensor]):
    def weights(depth: int) -> WeightsFile:
        tensors = torchvision.models.get_model(f"resnet{depth}", weights=None).state_dict()
        names = sorted(tensors) if by_name else list(tensors)
        return WeightsFile("backbone", {prefix + name: tensors[name] for name in names})

    found = match_state_dict(weights(50), extractor_state, may_change_classes=True)
    own_name = f"{prefix}fc".rstrip(".")
    assert found.notes[1] == f"Not used of the file: {own_name} (2)."
    with pytest.raises(ValueError, match=r"unknown tensors \(255\): .*\(there .*layer3.6.conv1"):
        match_state_dict(weights(101), extractor_state, may_change_classes=True)


@pytest.mark.parametrize("prefix", ["", "backbone.bottom_up.body."])
def test_classifiers_of_a_torchvision_extractor(prefix: str):
    torch.manual_seed(0)
    cfg = get_clq_cfg()
    cfg.merge_from_file("configs/Demo/Base-Demo.yaml")
    model = backbone_state(build_torchvision_fpn_backbone(cfg, ShapeSpec(channels=3)))
    tensors = torchvision.models.mobilenet_v2(weights=None).state_dict()
    weights = WeightsFile("backbone", {prefix + name: value for name, value in tensors.items()})
    found = match_state_dict(weights, model, may_change_classes=True)
    name = "features.13.conv.0.0.weight"
    assert found.state[f"backbone.bottom_up.body.{name}"] is tensors[name]
    assert "bottom_up" not in found.notes[0]
    del weights.tensors[prefix + name]
    with pytest.raises(ValueError, match=r"missing tensors \(1\): .*features.13.conv.0.0.weight"):
        match_state_dict(weights, model, may_change_classes=True)
