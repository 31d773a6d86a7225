"""Optional features in whole trainings: together, killed and resumed, and stopped early."""

import contextlib
import json
import math
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage
from torch import nn

import train_net
from clq.checkpoint import load_detector, read_weights
from clq.engine import CLQTrainer, TrainingStep
from clq.engine.hooks.wandb_writer import WandbWriter
from reference.killing import Killed, curve
from reference.tiny import TinyData, command_line, parse

pytestmark = pytest.mark.usefixtures("cpu_only")

ALL: dict[str, Any] = {
    "DETERMINISTIC": True,
    "SOLVER.MAX_ITER": 8,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "TEST.EVAL_PERIOD": 2,
    "SOLVER.EMA.ENABLED": True,
    "SOLVER.KEEP_BEST": True,
    "SOLVER.EARLY_STOPPING.PATIENCE": 100,
    "TEST.VALIDATION_LOSS": True,
    "VIS_PERIOD": 4,
    "SOLVER.ACCUMULATION.MICRO_BATCHES": 2,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
}
# AP of the evaluation after so many iterations.
SCORES = {2: 0.0, 4: 9.0, 6: math.nan, 8: 9.4, 10: 9.0, 12: 9.1, 14: 50.0}


@pytest.fixture(autouse=True)
def undo_determinism() -> Any:
    yield
    torch.use_deterministic_algorithms(False)


def train(data: TinyData, output: Path, *flags: str, **keys: Any) -> None:
    train_net.main(parse(command_line(data, output, *flags, keys=keys)))


def train_killed(data: TinyData, output: Path, step: int, **keys: Any) -> None:
    """Train up to the start of a step, and die."""
    run_step = TrainingStep.run_step

    def killed(self: TrainingStep) -> None:
        if get_event_storage().iter == step:
            raise Killed
        run_step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TrainingStep, "run_step", killed)
        train(data, output, **keys)


@pytest.fixture(scope="module")
def unbroken(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        train(tiny_data, output, **ALL)
    return output


def test_each_feature_leaves_its_outputs(unbroken: Path):
    last = curve(unbroken)[-1]
    assert {"bbox/AP", "ema/bbox/AP", "bbox/AP-bar", "ema/bbox/AP-dot"} <= set(last)
    losses = [last[f"validation/loss_{name}"] for name in ("cls", "quality", "box_reg", "dfl")]
    assert last["validation/total_loss"] == pytest.approx(sum(losses)) and min(losses) > 0
    plain, average = (
        load_detector(str(folder / "model_final.safetensors"))[0]
        for folder in (unbroken, unbroken / "ema")
    )
    pairs = zip(plain.parameters(), average.parameters(), strict=True)
    assert any(not a.equal(b) for a, b in pairs)
    for folder in (unbroken, unbroken / "ema"):
        written = json.loads((folder / "results.json").read_text())["val"]
        assert written["AP"] == pytest.approx(
            last[f"{'' if folder == unbroken else 'ema/'}bbox/AP"]
        )
    assert (unbroken / "model_best.safetensors").is_file()


def test_all_features_survive_a_kill(unbroken: Path, tiny_data: TinyData, tmp_path: Path):
    train_killed(tiny_data, tmp_path, step=5, **ALL)
    train(tiny_data, tmp_path, "--resume", **ALL)
    assert curve(tmp_path) == curve(unbroken)
    for name in ("model_final", "ema/model_final", "model_best"):
        file = f"{name}.safetensors"
        found, expected = (read_weights(folder / file).tensors for folder in (tmp_path, unbroken))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for name in ("results.json", "ema/results.json"):
        assert (tmp_path / name).read_text() == (unbroken / name).read_text()


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let evaluations give ``SCORES``; returns after how many iterations there was one."""
    evaluated = []

    def test(cls: type, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> OrderedDict:
        done = min(get_event_storage().iter + 1, 14)
        evaluated.append(done)
        return OrderedDict(bbox={"AP": SCORES[done]})

    monkeypatch.setattr(CLQTrainer, "test", classmethod(test))
    return evaluated


def test_a_checkpoint_with_the_former_names_of_hooks_resumes(
    unbroken: Path, tiny_data: TinyData, tmp_path: Path
):
    """As earlier versions wrote it, with the state of the writers in addition."""
    train_killed(tiny_data, tmp_path, step=5, **ALL)
    (file,) = tmp_path.glob("model_*3.pth")
    content = torch.load(file)
    hooks = content["trainer"]["hooks"]
    hooks["KeepAverage"] = hooks.pop("EMAHook")
    hooks["Evaluate"] = hooks.pop("ScoredEvalHook")
    writers = {"last_writes": [-1, -1], "metrics_size": 0}
    hooks["KeepHistory"] = {**hooks.pop("MetricHistoryHook"), **writers}
    torch.save(content, file)
    train(tiny_data, tmp_path, "--resume", **ALL)
    assert curve(tmp_path) == curve(unbroken)
    found, expected = (
        read_weights(folder / "ema" / "model_final.safetensors").tensors
        for folder in (tmp_path, unbroken)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    final = torch.load(tmp_path / "model_final.pth")
    assert set(final["trainer"]["hooks"]["ScoredEvalHook"]["scores"]) == {2, 4, 6}


@pytest.mark.parametrize(("expected", "passes"), [(9.0, True), (50.0, False)])
def test_expected_results_are_verified(
    expected: float, passes: bool, scored: list[int], tiny_data: TinyData, tmp_path: Path
):
    keys = {"SOLVER.MAX_ITER": 3, "TEST.EXPECTED_RESULTS": [["bbox", "AP", expected, 0.1]]}
    leaves = contextlib.nullcontext() if passes else pytest.raises(SystemExit)
    with leaves:
        train(tiny_data, tmp_path, **keys)
    assert scored == [4]


def test_precise_bn_updates_the_statistics_before_a_checkpoint(tiny_data: TinyData, tmp_path: Path):
    """Those of the last step follow from its weights alone, whatever came before."""
    keys = {"SOLVER.MAX_ITER": 1, "TEST.PRECISE_BN.ENABLED": True, "TEST.EVAL_PERIOD": 1}
    weights = []
    for num_iter in (1, 2):
        train(tiny_data, tmp_path / str(num_iter), **keys, **{"TEST.PRECISE_BN.NUM_ITER": num_iter})
        weights.append(torch.load(tmp_path / str(num_iter) / "model_final.pth")["model"])
    changed = {name for name, value in weights[0].items() if not value.equal(weights[1][name])}
    assert changed and all(".norm." in name for name in changed)


EARLY: dict[str, Any] = {
    "SOLVER.MAX_ITER": 14,
    "SOLVER.CHECKPOINT_PERIOD": 4,
    "TEST.EVAL_PERIOD": 2,
    "SOLVER.KEEP_BEST": True,
    "SOLVER.EARLY_STOPPING.PATIENCE": 3,
    "SOLVER.EARLY_STOPPING.MIN_GAIN": 0.5,
}


@pytest.mark.parametrize("killed_in", [None, 9, 11])
def test_early_stopping_keeps_the_best_model(
    killed_in: int | None, scored: list[int], tiny_data: TinyData, tmp_path: Path
):
    """9.0 after 4 is the last gain of 0.5, and 9.4 after 8 the best; NaN does not count."""
    if killed_in is not None:
        train_killed(tiny_data, tmp_path, step=killed_in, **EARLY)
    train(tiny_data, tmp_path, "--resume", **EARLY)
    assert scored[-1] == 12 and scored.count(12) == 1 and 14 not in scored
    final = torch.load(tmp_path / "model_final.pth")
    assert final["iteration"] == final["trainer"]["iteration"] == 11
    assert final["trainer"]["hooks"]["ScoredEvalHook"]["scores"] == pytest.approx(
        {done: score for done, score in SCORES.items() if done < 14}, nan_ok=True
    )
    written = read_weights(tmp_path / "model_final.safetensors").tensors
    assert all(written[name].equal(value) for name, value in final["model"].items())
    best = read_weights(tmp_path / "model_best.safetensors").tensors
    after_8 = torch.load(tmp_path / "model_0000007.pth")["model"]
    assert all(best[name].equal(value) for name, value in after_8.items())

    train(tiny_data, tmp_path, "--resume", **EARLY)
    assert scored[-1] == 12 and torch.load(tmp_path / "model_final.pth")["iteration"] == 11
    train(tiny_data, tmp_path, "--resume", **{**EARLY, "SOLVER.EARLY_STOPPING.PATIENCE": 9})
    assert scored[-1] == 14 and torch.load(tmp_path / "model_final.pth")["iteration"] == 13


def test_an_average_enabled_on_resume_starts_from_the_weights(tiny_data: TinyData, tmp_path: Path):
    train(tiny_data, tmp_path, **{"SOLVER.MAX_ITER": 2})
    before = torch.load(tmp_path / "model_final.pth")["model"]
    keys = {"SOLVER.MAX_ITER": 3, "SOLVER.EMA.ENABLED": True}
    train(tiny_data, tmp_path, "--resume", **keys)
    after = torch.load(tmp_path / "model_final.pth")
    average = after["trainer"]["hooks"]["EMAHook"]["model"]
    for name, value in after["model"].items():
        if value.is_floating_point():  # decay (1 + 1) / (10 + 1)
            expected = before[name] * 2 / 11 + value * 9 / 11
            torch.testing.assert_close(average[name], expected, rtol=1e-5, atol=1e-6)


def test_the_network_is_compiled_if_asked(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    compiled = []
    monkeypatch.setattr(
        "clq.engine.trainer.compile_network", lambda model, backend: compiled.append(backend)
    )
    keys = {"MODEL.COMPILE.ENABLED": True, "MODEL.COMPILE.BACKEND": "eager", "SOLVER.MAX_ITER": 1}
    train(tiny_data, tmp_path, **keys)
    assert compiled == ["eager"]


def test_images_go_to_tensorboard(unbroken: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(unbroken)).Reload()
    assert events.Tags()["images"] == [f"predictions/{i}.png" for i in range(3)]
    assert "bbox/AP" in events.Tags()["scalars"]


def test_weights_and_biases_comes_before_tensorboard(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written = []

    class Writer(WandbWriter):
        def __init__(self, *args: Any, **options: Any) -> None:
            pass

        def write(self) -> None:
            written.append(get_event_storage().iter)

        def close(self) -> None:
            written.append("closed")

    monkeypatch.setattr("clq.engine.trainer.WandbWriter", Writer)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=None))
    train(tiny_data, tmp_path, **{"WANDB.ENABLED": True, "SOLVER.MAX_ITER": 1})
    assert written[0] == 0 and written[-1] == "closed"
