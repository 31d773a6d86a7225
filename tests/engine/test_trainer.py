"""The trainer: optimizers, precision, accumulation, evaluation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from torch import nn

from clq.config import get_clq_cfg
from clq.engine import CLQTrainer, setup
from clq.evaluation import METRIC_NAMES
from reference.tiny import CLASS_NAMES, TinyData, command_line, parse

pytestmark = pytest.mark.usefixtures("cpu_only")
AMP = {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.PRECISION": "bfloat16"}
SGD = {"SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 0.02}


def config(data: TinyData, output: Path, **keys: Any) -> CfgNode:
    return setup(parse(command_line(data, output, keys=keys)))


def train_losses(trainer: CLQTrainer, steps: int) -> list[float]:
    """Run steps without hooks; returns their total losses."""
    with EventStorage() as storage:
        for _ in range(steps):
            trainer._trainer.run_step()
            storage.step()
        return [value for value, _ in storage.history("total_loss").values()]


@pytest.mark.parametrize("optimizer", [{}, SGD], ids=["AdamW", "SGD"])
@pytest.mark.parametrize("amp", [{}, AMP], ids=["fp32", "bf16"])
def test_training_lowers_the_loss(
    optimizer: dict[str, Any], amp: dict[str, Any], tiny_data: TinyData, tmp_path: Path
):
    seed_all_rng(0)
    trainer = CLQTrainer(config(tiny_data, tmp_path, **optimizer, **amp))
    dtypes = set()
    conv = trainer.model.backbone.fpn_output3
    conv.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    losses = train_losses(trainer, 36)
    assert torch.tensor(losses).isfinite().all()
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert dtypes == {torch.bfloat16 if amp else torch.float32}
    for name, value in trainer.model.named_parameters():
        assert value.dtype == torch.float32 and value.isfinite().all(), name


def test_a_nan_loss_of_the_detector_stops_the_run(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainer = CLQTrainer(config(tiny_data, tmp_path))
    losses_of = trainer.model.losses
    steps = []

    def spoiled(*args: Any, **options: Any) -> dict[str, torch.Tensor]:
        losses = losses_of(*args, **options)
        steps.append(len(steps))
        return {**losses, "loss_dfl": losses["loss_dfl"] * (1 if len(steps) < 2 else float("nan"))}

    monkeypatch.setattr(trainer.model, "losses", spoiled)
    trainer._trainer.run_step = counted = _copy_weights_before(trainer)
    with pytest.raises(FloatingPointError):
        trainer.train()
    assert len(steps) == 2
    for name, value in trainer.model.named_parameters():
        assert value.equal(counted.before[name]), name
    assert not (tmp_path / "model_final.pth").exists()


class _copy_weights_before:
    """A trainer's step that first copies the weights."""

    def __init__(self, trainer: CLQTrainer) -> None:
        self.model, self.step = trainer.model, trainer._trainer.run_step
        self.before: dict[str, torch.Tensor] = {}

    def __call__(self) -> None:
        self.before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.step()


def test_micro_batches_share_the_number_of_samples(tiny_data: TinyData, tmp_path: Path):
    """So the losses that it normalizes are those of the whole batch; box losses are close."""
    logs, weights = [], []
    for keys in ({}, {"SOLVER.ACCUMULATION.MICRO_BATCHES": 2}):
        seed_all_rng(0)
        keys = {**SGD, "MODEL.RESNETS.NORM": "FrozenBN", **keys}
        keys["MODEL.ALLOW_FROZEN_RANDOM"] = True
        trainer = CLQTrainer(config(tiny_data, tmp_path, **keys))
        with EventStorage() as storage:
            trainer._trainer.run_step()
            logs.append({name: value for name, (value, _) in storage.latest().items()})
        weights.append(trainer.model.state_dict())
    for name, is_same in {"cls": True, "quality": True, "box_reg": False}.items():
        loss = f"loss_{name}"
        assert (logs[1][loss] == pytest.approx(logs[0][loss], rel=1e-5)) == is_same, loss
    distance = max((weights[1][name] - weights[0][name]).abs().max() for name in weights[0])
    assert 1e-5 < distance < 1e-2


@pytest.mark.parametrize(("name", "kind"), [("SGD", torch.optim.SGD), ("AdamW", torch.optim.AdamW)])
def test_optimizers(name: str, kind: type[torch.optim.Optimizer]):
    cfg = get_clq_cfg()
    cfg.SOLVER.OPTIMIZER = name
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 0.5, 0.25, 0.125
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1))
    model[2].requires_grad_(False)
    optimizer = CLQTrainer.build_optimizer(cfg, model)
    assert isinstance(optimizer, kind)
    decay_of = {
        parameter: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    assert set(decay_of) == {*model[0].parameters(), *model[1].parameters()}
    assert decay_of[model[0].weight] == 0.25
    assert decay_of[model[1].weight] == decay_of[model[1].bias] == 0.125


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_gradients_are_clipped_if_asked(name: str):
    cfg = get_clq_cfg()
    cfg.SOLVER.OPTIMIZER = name
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 0.5
    layer = nn.Linear(2, 1)
    optimizer = CLQTrainer.build_optimizer(cfg, layer)
    layer.weight.grad, layer.bias.grad = torch.full((1, 2), 7.0), torch.full((1,), -7.0)
    optimizer.step()
    assert layer.weight.grad.tolist() == [[0.5, 0.5]] and layer.bias.grad.tolist() == [-0.5]


def test_channels_last_changes_the_layout_and_not_the_losses(tiny_data: TinyData, tmp_path: Path):
    losses = {}
    for channels_last in (False, True):
        cfg = config(tiny_data, tmp_path, **{"MODEL.CHANNELS_LAST": channels_last})
        trainer = CLQTrainer(cfg)
        weight = trainer.model.backbone.fpn_output3.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        losses[channels_last] = train_losses(trainer, 2)
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_the_precision_comes_from_the_config(tiny_data: TinyData, tmp_path: Path):
    keys = {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.PRECISION": "float16"}
    trainer = CLQTrainer(config(tiny_data, tmp_path, **keys))
    assert trainer._trainer.grad_scaler.is_enabled()
    trainer = CLQTrainer(config(tiny_data, tmp_path, **{"SOLVER.AMP.PRECISION": "float16"}))
    assert not trainer._trainer.grad_scaler.is_enabled()


def test_evaluation_writes_twelve_numbers_and_every_class(tiny_data: TinyData, tmp_path: Path):
    cfg = config(tiny_data, tmp_path)
    model = CLQTrainer.build_model(cfg)
    results = CLQTrainer.test(cfg, model)
    written = json.loads((tmp_path / "results.json").read_text())["val"]
    assert set(written) == {*METRIC_NAMES, "per_class"}
    assert list(written["per_class"]) == CLASS_NAMES
    for name in METRIC_NAMES:
        assert written[name] == pytest.approx(results["bbox"][name], abs=0, nan_ok=True) or (
            written[name] is None and results["bbox"][name] != results["bbox"][name]
        )
