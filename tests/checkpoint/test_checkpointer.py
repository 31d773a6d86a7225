"""Files that load for training and for evaluation, and errors for the others."""

import logging
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clq.checkpoint import CLQCheckpointer, CompleteCheckpointer
from reference.mmdet_style import FAMILY, mmdet_state, random_detector, small_config

KINDS = [CLQCheckpointer, CompleteCheckpointer]


def network(seed: int = 0, **keys) -> nn.Module:
    return random_detector(small_config({f"MODEL.CLQ.{k}": v for k, v in keys.items()}), seed)


def write(path: Path, weights: dict[str, Tensor]) -> str:
    torch.save({"model": weights}, path)
    return str(path)


def assert_same(actual: nn.Module, expected: nn.Module) -> None:
    for name, value in expected.state_dict().items():
        assert actual.state_dict()[name].equal(value), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_that_fit_are_loaded(prefix: str, kind: type[CLQCheckpointer], tmp_path: Path):
    source, target = network(), network(seed=1)
    state = {prefix + name: value for name, value in source.state_dict().items()}
    kind(target).load(write(tmp_path / "all.pth", state))
    assert_same(target, source)


@pytest.mark.parametrize("head", FAMILY)
def test_list_checkpoints_mmdetection_are_loaded(
    head: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source, target = (random_detector(small_config(FAMILY[head]), seed) for seed in (0, 1))
    torch.save({"state_dict": mmdet_state(source, head)}, tmp_path / "theirs.pth")
    with caplog.at_level(logging.INFO):
        CompleteCheckpointer(target).load(str(tmp_path / "theirs.pth"))
    assert_same(target, source)
    assert ("Dropped the spare class channel" in caplog.text) == (head == "clq")


def test_addresses_of_local_files(tmp_path: Path):
    source, target = network(), network(seed=1)
    path = write(tmp_path / "all.pth", dict(source.state_dict()))
    for address in (f"file://{path}", f"{path}?matching_heuristics=False"):
        target = network(seed=1)
        CLQCheckpointer(target).load(address)
        assert_same(target, source)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_must_fit_whole(kind: type[CLQCheckpointer], tmp_path: Path):
    state = dict(network().state_dict())
    less = {name: value for name, value in state.items() if name != "head.bbox_pred.bias"}
    with pytest.raises(ValueError, match=r"less.pth does not .*missing .*\(1\): head.bbox_pred"):
        kind(network()).load(write(tmp_path / "less.pth", less))
    more = {**state, "of_something_else": torch.ones(1)}
    with pytest.raises(ValueError, match=r"more.pth does not .*unknown .*\(1\): of_something"):
        kind(network()).load(write(tmp_path / "more.pth", more))
    other = {**state, "head.scales": torch.ones(3)}
    with pytest.raises(ValueError, match=r"head.scales \(3,\) for \(5,\)"):
        kind(network()).load(write(tmp_path / "other.pth", other))


def test_names_of_mmdetection_are_listed_too(tmp_path: Path):
    state = mmdet_state(network(), "clq")
    del state["bbox_head.cls_convs.1.conv.weight"], state["backbone.layer2.0.bn1.bias"]
    state["neck.extra.weight"] = torch.ones(1)
    with pytest.raises(ValueError) as error:
        CLQCheckpointer(network()).load(write(tmp_path / "theirs.pth", state))
    message = str(error.value)
    assert "head.cls_subnet.1.weight (there bbox_head.cls_convs.1.conv.weight)" in message
    assert "(there backbone.layer2.0.bn1.bias)" in message
    assert "unknown tensors (1): neck.extra.weight" in message


def test_another_class_count_serves_to_start_a_training_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = write(tmp_path / "five.pth", network().state_dict())
    target = network(seed=1, NUM_CLASSES=2)
    fresh = target.head.cls_score.weight.clone()
    with caplog.at_level(logging.INFO):
        CLQCheckpointer(target).resume_or_load(path, resume=False)
    assert "The weights have 5 classes and the model 2: head.cls_score starts anew." in caplog.text
    assert target.head.cls_score.weight.equal(fresh)
    assert target.head.bbox_pred.weight.equal(network().head.bbox_pred.weight)
    with pytest.raises(ValueError, match="five.pth has 5 classes, but the model has 2"):
        CompleteCheckpointer(network(NUM_CLASSES=2)).load(path)


def test_resuming_with_another_class_count_is_refused(tmp_path: Path):
    CLQCheckpointer(network(), str(tmp_path)).save("model_0000001")
    with pytest.raises(ValueError, match="has 5 classes, but the model has 2; .*--resume"):
        CLQCheckpointer(network(NUM_CLASSES=2), str(tmp_path)).resume_or_load("", resume=True)


def test_what_a_checkpoint_says_of_itself(tmp_path: Path):
    metadata = {"config": "VERSION: 2\n", "class_names": ["a"]}
    CLQCheckpointer(network(), str(tmp_path), metadata=metadata).save("model", iteration=3)
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    assert content.pop("model") and content == {**metadata, "iteration": 3}


def test_a_backbone_starts_a_training_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    prefix, source = "backbone.bottom_up.", network()
    trunk = {n: v for n, v in source.state_dict().items() if n.startswith(prefix)}
    path = write(tmp_path / "trunk.pth", trunk)
    target = network(seed=1)
    with caplog.at_level(logging.INFO):
        CLQCheckpointer(target).load(path)
    assert target.state_dict()[f"{prefix}stem.conv1.weight"].equal(
        trunk[f"{prefix}stem.conv1.weight"]
    )
    lines = [record.message for record in caplog.records if record.name.startswith("clq")]
    assert len(lines) == 1 and "head.cls_score (2)" in lines[0]
    with pytest.raises(ValueError, match="holds a backbone, but no detector to evaluate"):
        CompleteCheckpointer(network()).load(path)


def test_no_name_is_refused_for_evaluation_alone():
    CLQCheckpointer(network()).load("")
    with pytest.raises(ValueError, match="MODEL.WEIGHTS is empty"):
        CompleteCheckpointer(network()).load("")


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_no_checkpoints(kind: type[CLQCheckpointer], tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere.pth do not exist"):
        kind(network()).load(str(tmp_path / "nowhere.pth"))
    for name, content in (("text.pth", b"text"), ("empty.pth", b""), ("text.pkl", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a checkpoint"):
            kind(network()).load(str(tmp_path / name))


def test_a_pickle_that_runs_code_needs_trust(tmp_path: Path):
    """Such as one that holds a class of its own beside the weights."""
    path = tmp_path / "class.pkl"
    path.write_bytes(pickle.dumps({"model": dict(network().state_dict()), "beside": Path("x")}))
    with pytest.raises(ValueError, match="class.pkl is refused, .*MODEL.TRUST_WEIGHTS True"):
        CLQCheckpointer(network()).load(str(path))
    CLQCheckpointer(network(), trusted=True).load(str(path))


def test_the_pointer_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpointer = CLQCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))
    checkpointer.tag_last_checkpoint("model_0000004.pth")
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        checkpointer.tag_last_checkpoint("model_0000009.pth")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000004.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["last_checkpoint"]
