"""Kinds of weights files, and the names that their tensors get."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from clq.checkpoint.identify import read_weights
from clq.checkpoint.match_state_dict import match_state_dict
from clq.checkpoint.mmdet import Spare
from clq.config.serialize import dump_config
from reference.mmdet_style import FAMILY, mmdet_state, random_detector, small_config


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    return random_detector(small_config())


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def assert_same(actual: dict[str, Tensor], model: nn.Module) -> None:
    expected = model.state_dict()
    assert {n for n in actual if "integral" not in n and "tracked" not in n} == expected.keys()
    for name, value in expected.items():
        assert actual[name].equal(value), name


@pytest.mark.parametrize("prefix", ["", "module."])
def test_our_own(prefix: str, detector: nn.Module, tmp_path: Path):
    state = {prefix + name: value for name, value in detector.state_dict().items()}
    about = {"config": dump_config(small_config()), "class_names": list("abcde")}
    weights = read_weights(save(tmp_path / "a.pth", {"model": state, "iteration": 3, **about}))
    assert weights.kind == "detector" and weights.metadata["iteration"] == 3
    assert_same(weights.tensors, detector)
    assert weights.class_names == list("abcde")
    assert weights.config is not None and weights.config.MODEL.CLQ.NUM_CLASSES == 5
    assert weights.pixel_settings["INPUT.FORMAT"] == "RGB"
    bare = read_weights(save(tmp_path / "b.pth", state))
    assert (bare.config, bare.class_names, bare.pixel_settings) == (None, None, {})
    assert_same(bare.tensors, detector)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("head", FAMILY)
def test_mmdetection(head: str, prefix: str, tmp_path: Path):
    model = random_detector(small_config(FAMILY[head]))
    state = {prefix + name: value for name, value in mmdet_state(model, head).items()}
    content = {"meta": {"CLASSES": tuple("abcde")}, "state_dict": state}
    for name, nested in (("flat", content), ("nested", {"epoch": 1, "model": content})):
        weights = read_weights(save(tmp_path / f"{name}.pth", nested))
        assert weights.kind == "detector" and weights.class_names == list("abcde")
        assert_same(weights.tensors, model)
        assert weights.pixel_settings["INPUT.FORMAT"] == "RGB", "as all of theirs, unless stated"


def test_the_spare_class(detector: nn.Module, tmp_path: Path):
    content = {"meta": {"CLASSES": tuple("abcde")}, "state_dict": mmdet_state(detector, "clq")}
    path = save(tmp_path / "silent.pth", content)
    assert read_weights(path).notes[0].startswith("Dropped the spare class channel: bias -12.00")
    kept = read_weights(path, spare=Spare.KEEP)
    assert kept.class_names == [*"abcde", "spare"]
    assert len(kept.tensors["head.cls_score.weight"]) == 6
    content["state_dict"]["bbox_head.clq_cls.bias"][-1] = -3
    with pytest.raises(ValueError, match="loud.pth: the last class channel does not look spare"):
        read_weights(save(tmp_path / "loud.pth", content))


def test_names_that_do_not_fit_the_classes_are_refused(detector: nn.Module, tmp_path: Path):
    content = {"meta": {"CLASSES": tuple("abc")}, "state_dict": mmdet_state(detector, "clq")}
    with pytest.raises(ValueError, match="names 3 classes but predicts 5"):
        read_weights(save(tmp_path / "a.pth", content))


def test_a_network_that_can_not_be_built_is_refused_with_its_unknown_names(
    detector: nn.Module, tmp_path: Path
):
    state = mmdet_state(detector, "clq")
    state["backbone.stem.0.weight"] = state.pop("backbone.conv1.weight")
    with pytest.raises(ValueError) as error:
        read_weights(save(tmp_path / "deep.pth", state))
    message = str(error.value)
    assert "the tensor backbone.conv1.weight is missing." in message
    assert message.endswith("Unknown tensors (1): backbone.stem.0.weight.")


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_state"])
def test_a_classifier(nest: str, tmp_path: Path):
    state = resnet18().state_dict()
    weights = read_weights(save(tmp_path / "a.pth", {nest: state}))
    assert weights.kind == "backbone" and weights.tensors.keys() == state.keys()


def test_the_zoos(tmp_path: Path):
    arrays = {"conv1_w": torch.ones(2).numpy(), "conv1_w_momentum": torch.ones(2).numpy()}
    zoo = {"model": {"stem.conv1.weight": torch.ones(2).numpy()}, "matching_heuristics": True}
    for content, author, names in (
        (arrays, "Caffe2", {"conv1_w"}),
        ({"blobs": arrays}, "Caffe2", {"conv1_w"}),
        ({**zoo, "__author__": "torchvision"}, "torchvision", {"stem.conv1.weight"}),
    ):
        (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(content))
        weights = read_weights(tmp_path / "zoo.pkl")
        assert (weights.kind, weights.metadata["author"]) == ("zoo", author)
        assert weights.tensors.keys() == names


def test_a_detector_without_a_tensor_is_still_one(detector: nn.Module, tmp_path: Path):
    state = {n: t for n, t in detector.state_dict().items() if n != "head.scales"}
    weights = read_weights(save(tmp_path / "a.pth", state))
    assert weights.kind == "detector"
    with pytest.raises(ValueError, match=r"missing tensors \(1\): head.scales\."):
        match_state_dict(weights, detector.state_dict(), may_change_classes=False)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"config": "[" * 5000}, "the configuration inside is not valid yaml"),
        ({"config": 3}, "the configuration inside is not valid yaml"),
        ({"config": "SOLVER: {MAX_ITER: many}"}, "has SOLVER.MAX_ITER 'many', which is of another"),
        ({"class_names": 3}, "the class_names inside are no list of texts"),
        ({"class_names": [3]}, "the class_names inside are no list of texts"),
    ],
)
def test_what_lies_beside_must_make_sense(
    beside: dict[str, Any], message: str, detector: nn.Module, tmp_path: Path
):
    with pytest.raises(ValueError, match=f"a.pth: .*{message}"):
        read_weights(save(tmp_path / "a.pth", {"model": detector.state_dict(), **beside}))


@pytest.mark.parametrize(
    "meta",
    [
        "text",
        3,
        {"dataset_meta": ["a"]},
        {"CLASSES": 5},
        {"config": "(" * 5000},
        {"config": "-" * 50000 + "1"},
    ],
)
def test_a_meta_that_says_nothing(meta: Any, detector: nn.Module, tmp_path: Path):
    content = {"meta": meta, "state_dict": mmdet_state(detector, "clq")}
    weights = read_weights(save(tmp_path / "a.pth", content))
    assert weights.class_names is None and "MODEL.CLQ.NUM_GROUPS" in weights.inferred_keys


def test_nothing_that_is_known(tmp_path: Path):
    content = {"model": {"some.thing": torch.ones(1), "other": torch.ones(2)}}
    with pytest.raises(ValueError, match="a.pth holds nothing that CLQ knows: .* some.thing"):
        read_weights(save(tmp_path / "a.pth", content))


def test_nothing(tmp_path: Path):
    itself: dict[str, Any] = {}
    itself["model"] = itself
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(itself))
    with pytest.raises(ValueError, match="a.pkl holds no tensors"):
        read_weights(tmp_path / "a.pkl")
    arrays = {"model": {"a": np.array(["text"])}}
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(arrays))
    with pytest.raises(
        ValueError, match="b.pkl is refused: it holds an array of 'U4', which are no plain numbers"
    ):
        read_weights(tmp_path / "b.pkl")
    with pytest.raises(ValueError, match="a.pth holds no tensors"):
        read_weights(save(tmp_path / "a.pth", {"lr": 0.1}))
