"""What is left behind where a loss is not finite."""

from pathlib import Path

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from clq.engine.nonfinite import all_finite, stop_on_nonfinite
from reference.spoiling import largest_file

INSTANCES = Instances((4, 4), gt_boxes=Boxes(torch.ones(2, 4)), gt_classes=torch.tensor([1, 0]))
BATCH = [
    {"file_name": "a.png", "image": torch.ones(3, 4, 4), "instances": INSTANCES},
    {"file_name": "b.png", "image": torch.zeros(3, 4, 4), "instances": INSTANCES[:0]},
]


def stop(folder: Path | None, **losses: float) -> None:
    """As after a step in two parts, of which the second gave the losses."""
    own = [
        ({"loss_cls": torch.tensor(1.0)}, [{"file_name": "good.png"}]),
        ({name: torch.tensor(value) for name, value in losses.items()}, BATCH),
    ]
    stop_on_nonfinite(losses, own, nn.Linear(1, 1), 7, folder)


@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf"), -float("inf")])
def test_every_loss_of_every_part_counts(value: float):
    losses = [{"a": torch.tensor(0.0)}, {"a": torch.tensor(2.0), "b": torch.tensor(value)}]
    assert all_finite(losses).item() == (value == 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_batch_is_named_and_kept(value: float, tmp_path: Path):
    with pytest.raises(FloatingPointError) as error:
        stop(tmp_path, loss_cls=1.0, loss_dfl=value)
    text, file = str(error.value), tmp_path / "nonfinite_0000007.pth"
    assert "\n" not in text and f"loss_dfl {value:g}" in text and str(file) in text
    assert "iteration 7" in text and "on the images a.png, b.png;" in text
    content = torch.load(file, weights_only=True)
    assert content["file_names"] == ["a.png", "b.png"]
    assert content["images"][0].equal(BATCH[0]["image"])
    assert [len(boxes) for boxes in content["gt_boxes"]] == [2, 0]
    assert content["gt_classes"][0].tolist() == [1, 0]
    assert set(content["model"]) == {"weight", "bias"}


def test_a_full_disk_does_not_hide_the_loss(tmp_path: Path):
    with largest_file(100), pytest.raises(FloatingPointError) as error:
        stop(tmp_path, loss_cls=float("nan"))
    text, file = str(error.value), tmp_path / "nonfinite_0000007.pth"
    assert f"(loss_cls nan), on the images a.png, b.png; {file} can't be written; the" in text
    assert not list(tmp_path.iterdir())


def test_without_a_folder_nothing_is_kept():
    with pytest.raises(FloatingPointError, match="on the images a.png, b.png; the weights"):
        stop(None, loss_cls=float("inf"))


def test_a_mean_that_overflows_stops_too():
    """Though the losses of each process are finite."""
    own = [({"loss_cls": torch.tensor(3e38)}, BATCH)]
    with pytest.raises(
        FloatingPointError, match=r"not finite in iteration 7 \(loss_cls inf\); the"
    ):
        stop_on_nonfinite({"loss_cls": float("inf")}, own, nn.Linear(1, 1), 7, None)


def test_what_is_kept_lies_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that it loads on a machine without a GPU; the model here is on one that is not there."""
    saved: list[dict] = []
    monkeypatch.setattr(torch, "save", lambda content, stream: saved.append(content))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = nn.Linear(1, 1)
        model.weight = nn.Parameter(torch.empty(1, 1, device="cuda"))
    own = [({"loss_cls": torch.tensor(float("nan"))}, BATCH)]
    with pytest.raises(FloatingPointError):
        stop_on_nonfinite({"loss_cls": float("nan")}, own, model, 7, tmp_path)
    assert model.weight.is_cuda and saved[0]["model"]["weight"].is_cpu
