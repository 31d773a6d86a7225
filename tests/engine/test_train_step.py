"""One training step: precision, micro-batches, and what it does with losses."""

import math
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from clq.engine import TrainingStep
from clq.engine.train_step import _stop_on_nonfinite
from clq.modeling.loss_normalizer import LossSums, Normalizer
from reference.devices import current
from reference.spoiling import largest_file

pytestmark = pytest.mark.usefixtures("device")

X = torch.tensor([[1.0, 0.5, -1.0, 2.0], [0.0, 1.0, 1.0, -1.0], [2.0, 0.0, 1.0, 1.0], [1.0] * 4])


def rows(index: list[int] | slice = slice(None)) -> torch.Tensor:
    return X[index].to(current())


class Line(nn.Module):
    """The smallest model: squared errors of w x, in the network's precision.

    "a" is divided by the number of samples, of which each row is ``row + 1``; "b" by the sum of
    weights, which follow from the prediction as CLQ's do.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)
        self.scale = 1.0
        self.dtypes: set[torch.dtype] = set()
        self.passes = 0
        self.to(current())

    def prepare(self, batch: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Any]:
        num_samples = torch.tensor(sum(sample["row"] + 1.0 for sample in batch), device=current())
        return batch, types.SimpleNamespace(num_samples=num_samples)

    def forward(
        self, batch: list[dict[str, Any]], targets: Any, normalizer: Normalizer
    ) -> dict[str, torch.Tensor]:
        self.passes += 1
        y = self.layer(rows([sample["row"] for sample in batch])).squeeze(1)
        self.dtypes.add(y.dtype)
        errors = (y.float() - 1).square()
        weights = y.detach().float().sigmoid()
        return normalizer(
            LossSums(
                {"a": self.scale * errors.sum()},
                {"b": self.scale * (weights * errors).sum()},
                targets.num_samples,
                weights.sum(),
            )
        )


def line_step(precision: torch.dtype | None = None, **options: Any) -> TrainingStep:
    model = Line()
    batch = [{"row": row, "file_name": f"{row}.png"} for row in range(len(X))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return TrainingStep(model, [batch] * 10, optimizer, precision=precision, **options)


def run(step: TrainingStep, count: int = 1) -> list[dict[str, float]]:
    """Run steps, and return what each logs."""
    with EventStorage() as storage:
        logged = []
        for _ in range(count):
            step.run_step()
            logged.append({name: value for name, (value, _) in storage.latest().items()})
            storage.step()
    return logged


@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_a_step_runs_in_the_precision_asked_for(precision: torch.dtype | None):
    step = line_step(precision)
    losses = [logged["total_loss"] for logged in run(step, 5)]
    assert step.model.dtypes == {precision or torch.float32}
    assert step.model.layer.weight.dtype == torch.float32
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
    assert step.grad_scaler.is_enabled() == (precision is torch.float16)


def test_precisions_take_the_same_step():
    """The scaler's factor is taken out of the gradients again."""
    weights = []
    for precision in (None, torch.bfloat16, torch.float16):
        step = line_step(precision)
        step.model.scale = 0.01  # the scaler starts at 65536, just above the range of fp16
        run(step)
        weights.append(step.model.layer.weight.detach())
    torch.testing.assert_close(weights[1], weights[0], rtol=0.01, atol=0.001)
    torch.testing.assert_close(weights[2], weights[0], rtol=0.001, atol=0.0001)


def test_the_step_by_hand():
    """w - lr d/dw (a / 10 + b / sum of weights), and the losses before it in the log."""
    step, plain = line_step(), Line()
    (logged,) = run(step)
    y = plain.layer(rows()).squeeze(1)
    errors, weights = (y - 1).square(), y.detach().sigmoid()
    a, b = errors.sum() / 10, (weights * errors).sum() / weights.sum()
    (a + b).backward()
    expected = plain.layer.weight - 0.05 * plain.layer.weight.grad
    torch.testing.assert_close(step.model.layer.weight, expected)
    assert logged["a"] == pytest.approx(a.item()) and logged["b"] == pytest.approx(b.item())
    assert logged["total_loss"] == pytest.approx((a + b).item()) and logged["data_time"] >= 0


@pytest.mark.parametrize("count", [2, 4])
def test_micro_batches_know_the_samples_of_the_whole_batch_but_their_own_weight(count: int):
    step, plain = line_step(micro_batches=count), Line()
    (logged,) = run(step)
    a = b = torch.zeros(())
    for i in range(count):
        y = plain.layer(rows(slice(i, None, count))).squeeze(1)
        errors, weights = (y - 1).square(), y.detach().sigmoid()
        a = a + errors.sum() / 10
        b = b + (weights * errors).sum() / weights.sum() / count
    (a + b).backward()
    expected = plain.layer.weight - 0.05 * plain.layer.weight.grad
    torch.testing.assert_close(step.model.layer.weight, expected)
    assert logged["a"] == pytest.approx(a.item()) and logged["b"] == pytest.approx(b.item())
    assert step.model.passes == count


def test_micro_batches_in_half_precision_take_the_same_step():
    full, half = line_step(micro_batches=2), line_step(torch.float16, micro_batches=2)
    full.model.scale = half.model.scale = 0.01
    run(full), run(half)
    torch.testing.assert_close(
        half.model.layer.weight, full.model.layer.weight, rtol=0.001, atol=0.0001
    )


@pytest.mark.parametrize("scale", [math.nan, math.inf])
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"micro_batches": 2}])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(
    scale: float, precision: torch.dtype | None, options: dict[str, Any]
):
    step = line_step(precision, **options)
    step.model.scale = scale
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="not finite in iteration 0 .*0.png"):
        run(step)
    for name, value in step.model.state_dict().items():
        assert value.equal(before[name]), name


def test_gradients_do_not_add_up_over_steps():
    step = line_step()
    step.optimizer.param_groups[0]["lr"] = 0.0
    run(step)
    first = step.model.layer.weight.grad.clone()
    run(step)
    assert step.model.layer.weight.grad.equal(first) and first.any()


def test_clipping_sees_the_gradients_without_the_factor_of_half_precision():
    step = line_step(torch.float16)
    step.model.scale = 0.01
    seen = []
    take = step.optimizer.step
    step.optimizer.step = lambda: (seen.append(step.model.layer.weight.grad.clone()), take())[1]
    run(step)
    plain = line_step()
    plain.model.scale = 0.01
    run(plain)
    torch.testing.assert_close(seen[0], plain.model.layer.weight.grad, rtol=0.01, atol=0.0001)


def test_flags_of_the_only_process_come_back():
    flags = [False, True]
    step = line_step(flags=lambda: flags)
    run(step)
    assert step.flag_counts == [0, 1]
    flags[:] = [True, False]
    run(step)
    assert step.flag_counts == [1, 0]


def test_a_model_in_evaluation_mode_is_an_error():
    step = line_step()
    step.model.eval()
    with pytest.raises(AssertionError, match="evaluation mode"):
        run(step)


def test_the_step_keeps_optimizer_and_scaler():
    step = line_step(torch.float16)
    run(step)
    step.grad_scaler.update(new_scale=128.0)
    other = line_step(torch.float16)
    other.optimizer.param_groups[0]["lr"] = 9.0
    other.load_state_dict(step.state_dict())
    assert other.grad_scaler.get_scale() == 128.0
    assert other.optimizer.param_groups[0]["lr"] == 0.05


# ----------------------------------------------------------------------- losses that are not finite

INSTANCES = Instances((4, 4), gt_boxes=Boxes(torch.ones(2, 4)), gt_classes=torch.tensor([1, 0]))
BATCH = [
    {"file_name": "a.png", "image": torch.ones(3, 4, 4), "instances": INSTANCES},
    {"file_name": "b.png", "image": torch.zeros(3, 4, 4), "instances": INSTANCES[:0]},
]


def stop(folder: Path | None, **losses: float) -> None:
    """As after a step of two micro-batches, of which the second gave the losses."""
    local = [
        ({"loss_cls": torch.tensor(1.0)}, [{"file_name": "good.png"}]),
        ({name: torch.tensor(value) for name, value in losses.items()}, BATCH),
    ]
    _stop_on_nonfinite(losses, local, nn.Linear(1, 1), 7, folder)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
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
        stop(tmp_path, loss_cls=math.nan)
    text, file = str(error.value), tmp_path / "nonfinite_0000007.pth"
    assert f"(loss_cls nan), on the images a.png, b.png; {file} can't be written; the" in text
    assert not list(tmp_path.iterdir())


def test_without_a_folder_nothing_is_kept():
    with pytest.raises(FloatingPointError, match="on the images a.png, b.png; the weights"):
        stop(None, loss_cls=math.inf)


def test_a_mean_that_overflows_stops_too():
    """Though the losses of each process are finite."""
    local = [({"loss_cls": torch.tensor(3e38)}, BATCH)]
    with pytest.raises(
        FloatingPointError, match=r"not finite in iteration 7 \(loss_cls inf\); the"
    ):
        _stop_on_nonfinite({"loss_cls": math.inf}, local, nn.Linear(1, 1), 7, None)


def test_the_dump_holds_cpu_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that it loads on a machine without a GPU; the model here is on one that is not there."""
    saved: list[dict] = []
    monkeypatch.setattr(torch, "save", lambda content, stream: saved.append(content))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = nn.Linear(1, 1)
        model.weight = nn.Parameter(torch.empty(1, 1, device="cuda"))
    local = [({"loss_cls": torch.tensor(math.nan)}, BATCH)]
    with pytest.raises(FloatingPointError):
        _stop_on_nonfinite({"loss_cls": math.nan}, local, model, 7, tmp_path)
    assert model.weight.is_cuda and saved[0]["model"]["weight"].is_cpu
