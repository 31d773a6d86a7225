"""Which files load, and what is said of the others."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clq.checkpoint import CLQCheckpointer, CompleteCheckpointer


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def write(path: Path, weights: dict[str, Tensor]) -> str:
    torch.save({"model": weights}, path)
    return str(path)


@pytest.mark.parametrize("kind", [CLQCheckpointer, CompleteCheckpointer])
def test_weights_that_fit_are_loaded(kind: type[CLQCheckpointer], tmp_path: Path):
    source, target = network(), network()
    kind(target).load(write(tmp_path / "all.pth", source.state_dict()))
    for name, value in target.state_dict().items():
        assert value.equal(source.state_dict()[name]), name


def test_more_weights_than_the_model_has_do_no_harm(tmp_path: Path):
    source, target = network(), network()
    weights = {**source.state_dict(), "of_something_else": torch.ones(1)}
    CompleteCheckpointer(target).load(write(tmp_path / "more.pth", weights))
    assert target[0].weight.equal(source[0].weight)


def test_only_evaluation_needs_all_weights(tmp_path: Path):
    weights = network().state_dict()
    del weights["0.bias"]
    path = write(tmp_path / "less.pth", weights)
    with pytest.raises(ValueError, match="1 of its tensors .* such as 0.bias"):
        CompleteCheckpointer(network()).load(path)
    target = network()
    CLQCheckpointer(target).load(path)
    assert target[0].weight.equal(weights["0.weight"])


def test_another_shape_is_refused(tmp_path: Path):
    weights = {**network().state_dict(), "0.weight": torch.ones(3, 5)}
    with pytest.raises(ValueError, match="another shape there, such as 0.weight"):
        CompleteCheckpointer(network()).load(write(tmp_path / "wide.pth", weights))


def test_no_name_is_refused_for_evaluation_alone():
    CLQCheckpointer(network()).load("")
    with pytest.raises(ValueError, match="MODEL.WEIGHTS is empty"):
        CompleteCheckpointer(network()).load("")


@pytest.mark.parametrize("kind", [CLQCheckpointer, CompleteCheckpointer])
def test_files_that_are_no_checkpoints(kind: type[CLQCheckpointer], tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere.pth do not exist"):
        kind(network()).load(str(tmp_path / "nowhere.pth"))
    for name, content in (("text.pth", b"text"), ("empty.pth", b""), ("text.pkl", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a checkpoint"):
            kind(network()).load(str(tmp_path / name))


def test_half_a_checkpoint_is_refused(tmp_path: Path):
    """As a full disk or a killed copy leaves it."""
    path = Path(write(tmp_path / "half.pth", network().state_dict()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="half.pth is not a checkpoint"):
        CLQCheckpointer(network()).load(str(path))
