"""A checkpoint alone gives a detector."""

import logging
from pathlib import Path

import pytest
import torch

from clq.checkpoint import load_detector
from clq.checkpoint.conversion import write_detector
from clq.checkpoint.detector import build_detector, class_names_of
from clq.checkpoint.weights_file import WeightsFile
from clq.config.serialize import dump_config
from reference.mmdet_style import mmdet_state, random_detector, small_config


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_gives_a_detector(suffix: str, tmp_path: Path):
    source = random_detector(small_config())
    path = tmp_path / f"detector.{suffix}"
    write_detector(path, source.state_dict(), dump_config(small_config()), list("abcde"))
    model, names = load_detector(path)
    assert names == list("abcde") and not model.training
    assert model.device == torch.device("cpu")
    image = torch.randint(0, 256, (3, 60, 90)).float()
    with torch.no_grad():
        (found,), (expected,) = (m([{"image": image}]) for m in (model, source))
    assert len(found["instances"]) > 0
    for field in ("scores", "pred_classes"):
        assert found["instances"].get(field).equal(expected["instances"].get(field))
    boxes = [x["instances"].pred_boxes.tensor for x in (found, expected)]
    assert boxes[0].equal(boxes[1])


def test_a_checkpoint_of_mmdetection_serves_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    torch.save(mmdet_state(random_detector(small_config()), "clq"), tmp_path / "theirs.pth")
    with caplog.at_level(logging.INFO):
        model, names = load_detector(str(tmp_path / "theirs.pth"))
    assert model.num_classes == 5 and names[4] == "class_4"
    assert "Dropped the spare class channel" in caplog.text
    assert "does not state the groups of its GroupNorm; took 8, give" in caplog.text


def test_a_file_without_configuration_is_refused(tmp_path: Path):
    torch.save({"model": random_detector(small_config()).state_dict()}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="bare.pth has no configuration of a detector inside"):
        load_detector(tmp_path / "bare.pth")


def test_a_configuration_that_does_not_fit_is_refused():
    weights = WeightsFile("detector", dict(random_detector(small_config()).state_dict()))
    with pytest.raises(ValueError, match="a.pth does not fit the model: tensors of another shape"):
        build_detector(weights, small_config({"MODEL.CLQ.REG_MAX": 8}), "a.pth")
    with pytest.raises(ValueError, match="MODEL.CLQ.ALPHA is 2"):
        build_detector(weights, small_config({"MODEL.CLQ.ALPHA": 2.0}), "a.pth")
    assert class_names_of(weights, small_config()) == [f"class_{k}" for k in range(5)]


@pytest.mark.parametrize(
    ("ending", "value", "reason"),
    [
        ("running_var", -5.0, "variances below 0"),
        ("cls_score.weight", 3e38, "predictions are not finite"),
        ("head.scales", 3e38, "predictions are not finite"),
    ],
)
def test_outputs_that_are_not_finite_are_refused(
    ending: str, value: float, reason: str, tmp_path: Path
):
    state = random_detector(small_config()).state_dict()
    changed = [name for name in state if name.endswith(ending)]
    for name in changed:
        state[name] = torch.full_like(state[name], value)
    write_detector(tmp_path / "a.pth", state, dump_config(small_config()), list("abcde"))
    with pytest.raises(ValueError, match=reason):
        load_detector(tmp_path / "a.pth")


@pytest.mark.parametrize("count", [1, 4, 6])
def test_names_must_be_as_many_as_classes(count: int, tmp_path: Path):
    state = random_detector(small_config()).state_dict()
    write_detector(tmp_path / "a.pth", state, dump_config(small_config()), list("abcdef"[:count]))
    with pytest.raises(ValueError, match=f"a.pth: the file has {count} class names for its 5"):
        load_detector(tmp_path / "a.pth")
