"""A training that is stopped at any moment and resumed is the training that was not stopped."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train_net
from clq.checkpoint import CLQCheckpointer, identify, output_dir, read_weights
from clq.checkpoint.read_file import read_file
from clq.engine import CLQTrainer, TrainingStep, setup
from clq.evaluation import CocoBoxEvaluator
from reference.killing import Killed, curve
from reference.tiny import TinyData, command_line, parse, start_training

pytestmark = pytest.mark.usefixtures("cpu_only")

# Flips are drawn, the learning rate changes in every step, and the metrics are written at
# iterations 19 and 23, between checkpoints.
KEYS: dict[str, Any] = {
    "DETERMINISTIC": True,
    "SOLVER.MAX_ITER": 24,
    "SOLVER.CHECKPOINT_PERIOD": 4,
    "SOLVER.WARMUP_ITERS": 20,
    "TEST.EVAL_PERIOD": 6,
}


@pytest.fixture(autouse=True)
def undo_determinism() -> Any:
    yield
    torch.use_deterministic_algorithms(False)


def train(data: TinyData, output: Path, *flags: str, **keys: Any) -> None:
    train_net.main(parse(command_line(data, output, *flags, keys={**KEYS, **keys})))


def check_same_training(output: Path, unbroken: Path) -> None:
    states = [torch.load(folder / "model_final.pth") for folder in (unbroken, output)]
    torch.testing.assert_close(states[1]["model"], states[0]["model"], rtol=0, atol=0)
    optimizers = [state["trainer"]["_trainer"]["optimizer"]["state"] for state in states]
    torch.testing.assert_close(optimizers[1], optimizers[0], rtol=0, atol=0)
    assert states[1]["trainer"]["iteration"] == states[0]["trainer"]["iteration"] == 23
    assert curve(output) == curve(unbroken)
    assert (output / "results.json").read_text() == (unbroken / "results.json").read_text()
    finals = [read_weights(f / "model_final.safetensors") for f in (unbroken, output)]
    torch.testing.assert_close(finals[1].tensors, finals[0].tensors, rtol=0, atol=0)


@pytest.fixture(scope="module")
def unbroken(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        train(tiny_data, output)
    assert [line["iteration"] for line in curve(output)] == [19, 17, 23, 24]
    assert curve(output)[1]["bbox/AP50"] >= 0
    return output


def at_call(number: int, action: Callable[[], None]) -> Callable[[Any], Callable[..., Any]]:
    """A decorator that acts instead of the call of this number, from 0, and calls else."""
    calls = []

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(function)
            if len(calls) == number + 1:
                action()
            return function(*args, **kwargs)

        return counted

    return decorate


def kill() -> None:
    raise Killed


MOMENTS = {
    "before the first checkpoint": (TrainingStep, "run_step", 2),
    "after a checkpoint": (TrainingStep, "run_step", 8),
    "some steps after a checkpoint": (TrainingStep, "run_step", 14),
    "after the metrics were written": (TrainingStep, "run_step", 21),
    "while saving": (torch, "save", 2),
    "between saving and pointing": (CLQCheckpointer, "tag_last_checkpoint", 2),
    "in an evaluation after a checkpoint": (CocoBoxEvaluator, "process", 4),
    "in an evaluation between checkpoints": (CocoBoxEvaluator, "process", 1),
    "in the last evaluation": (CocoBoxEvaluator, "process", 10),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed(
    moment: str, unbroken: Path, tiny_data: TinyData, tmp_path: Path, monkeypatch: Any
):
    owner, name, number = MOMENTS[moment]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, at_call(number, kill)(getattr(owner, name)))
        train(tiny_data, tmp_path)
    train(tiny_data, tmp_path, "--resume")
    check_same_training(tmp_path, unbroken)


def test_workers_and_repeated_kills_change_nothing(
    unbroken: Path, tiny_data: TinyData, tmp_path: Path, monkeypatch: Any
):
    for number in (5, 6, 7):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(TrainingStep, "run_step", at_call(number, kill)(TrainingStep.run_step))
            train(tiny_data, tmp_path, "--resume", **{"DATALOADER.NUM_WORKERS": 2})
    train(tiny_data, tmp_path, "--resume", **{"DATALOADER.NUM_WORKERS": 1})
    check_same_training(tmp_path, unbroken)


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("after the metrics were written", signal.SIGINT),
        ("in an evaluation between checkpoints", signal.SIGTERM),
        ("in the last evaluation", signal.SIGINT),
    ],
)
def test_a_signal_finishes_the_step_and_saves(
    moment: str,
    number: signal.Signals,
    unbroken: Path,
    tiny_data: TinyData,
    tmp_path: Path,
    monkeypatch: Any,
):
    owner, name, call = MOMENTS[moment]
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as leaving:
        action = at_call(call, lambda: os.kill(os.getpid(), number))
        patch.setattr(owner, name, action(getattr(owner, name)))
        train(tiny_data, tmp_path)
    assert leaving.value.code == 128 + number
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    # The step in which the signal came is complete, and saved.
    last = (tmp_path / "last_checkpoint").read_text()
    done = torch.load(tmp_path / last)["trainer"]["iteration"]
    assert done == {"run_step": call, "process": 6 * (call // 3 + 1) - 1}[name]
    assert f"Stopped by {number.name}" in (tmp_path / "log.txt").read_text()
    train(tiny_data, tmp_path, "--resume")
    states = [torch.load(folder / "model_final.pth")["model"] for folder in (unbroken, tmp_path)]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    assert [line for line in curve(tmp_path) if line in curve(unbroken)] == curve(unbroken)
    assert (tmp_path / "results.json").read_text() == (unbroken / "results.json").read_text()


def test_a_process_that_gets_a_signal_leaves_with_its_code(tiny_data: TinyData, tmp_path: Path):
    keys = {"SOLVER.MAX_ITER": 100_000, "SOLVER.CHECKPOINT_PERIOD": 2, "DATALOADER.NUM_WORKERS": 2}
    process = start_training(command_line(tiny_data, tmp_path, keys=keys), start_new_session=True)
    while not (tmp_path / "last_checkpoint").exists():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)  # as a cluster does, to the workers as well
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in stderr


def test_another_length_is_no_obstacle(tiny_data: TinyData, tmp_path: Path):
    short = {"SOLVER.MAX_ITER": 4, "SOLVER.WARMUP_ITERS": 0, "SOLVER.STEPS": "(100,)"}
    train(tiny_data, tmp_path / "two", **short)
    (tmp_path / "two" / ".model_0000001.pth.half").touch()  # of a kill while saving
    train(tiny_data, tmp_path / "two", "--resume", **{**short, "SOLVER.MAX_ITER": 7})
    assert not list((tmp_path / "two").glob(".model*"))
    train(tiny_data, tmp_path / "one", **{**short, "SOLVER.MAX_ITER": 7})
    states = [torch.load(tmp_path / name / "model_final.pth") for name in ("one", "two")]
    assert states[0]["trainer"]["iteration"] == states[1]["trainer"]["iteration"] == 6
    torch.testing.assert_close(states[1]["model"], states[0]["model"], rtol=0, atol=0)


def test_a_schedule_that_was_fitted_to_the_processes_goes_on(tiny_data: TinyData, tmp_path: Path):
    keys = {"SOLVER.IMS_PER_BATCH": 4, "SOLVER.REFERENCE_WORLD_SIZE": 2}
    keys |= {"SOLVER.REFERENCE_BATCH_SIZE": 0, "SOLVER.WARMUP_ITERS": 0}
    train(tiny_data, tmp_path, **keys, **{"SOLVER.MAX_ITER": 1})
    sentence = (
        "Schedule scaled from a world size of 2 to 1: SOLVER.IMS_PER_BATCH 4 -> 2, SOLVER.BASE_LR "
        "0.002 -> 0.001, SOLVER.MAX_ITER 1 -> 2, steps (2000,)."
    )
    assert sentence in (tmp_path / "log.txt").read_text()
    train(tiny_data, tmp_path, "--resume", **keys, **{"SOLVER.MAX_ITER": 2})
    state = torch.load(tmp_path / "model_final.pth")
    assert state["trainer"]["iteration"] == 3
    assert "IMS_PER_BATCH: 2" in state["config"] and "BASE_LR: 0.001" in state["config"]


def test_a_seed_that_was_drawn_is_kept_and_random_states_too(tiny_data: TinyData, tmp_path: Path):
    keys = {"SEED": -1, "SOLVER.MAX_ITER": 2}
    train(tiny_data, tmp_path, **keys)
    seed = torch.load(tmp_path / "model_final.pth")["trainer"]["data_seed"]
    trainer = CLQTrainer(
        setup(parse(command_line(tiny_data, tmp_path, "--resume", keys={**KEYS, **keys})))
    )
    assert trainer._trainer.data_loader.seed != seed
    trainer.resume_or_load(resume=True)
    assert trainer._trainer.data_loader.seed == seed and trainer._trainer.data_loader.start == 2
    saved = torch.load(tmp_path / "model_final.pth")["trainer"]["random"]
    assert torch.get_rng_state().equal(saved["torch"])
    assert np.random.get_state()[1].tolist() == saved["numpy"][1]


def test_a_resume_reads_its_checkpoint_once_for_each_use(
    unbroken: Path, tiny_data: TinyData, tmp_path: Path, monkeypatch: Any
):
    """To compare the configuration, and to load it."""
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    reads = []

    def noted(path: Path, **options: Any) -> Any:
        reads.append(Path(path).name)
        return read_file(path, **options)

    for module in (identify, output_dir):
        monkeypatch.setattr(module, "read_file", noted)
    train(tiny_data, tmp_path, "--resume")
    assert reads == ["model_final.pth"] * 2
