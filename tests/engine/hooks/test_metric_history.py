"""A resumed run continues its metrics where the checkpoint was saved."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, JSONWriter

from clq.engine.hooks.metric_history import MetricHistoryHook, MetricWriterHook


def run(
    file: Path, steps: range, state: dict[str, Any] | None = None, *, max_iter: int = 12
) -> dict[int, dict[str, Any]]:
    """Log steps as the trainer does, and write after every third; returns each step's state."""
    states = {}
    with EventStorage(steps.start) as storage:
        writer = PeriodicWriter([JSONWriter(str(file))], period=3)
        hook = MetricHistoryHook(file, period=3)
        trainer = SimpleNamespace(storage=storage, start_iter=steps.start, max_iter=max_iter)
        hook.trainer = writer.trainer = trainer
        if state:
            hook.load_state_dict(json.loads(json.dumps(state)))
            storage.iter = trainer.iter = steps.start - 1
        hook.before_train()
        if state:
            storage.iter = trainer.iter = steps.start - 1
            writer.after_step()  # the trainer repeats what follows a checkpoint
        for step in steps:
            storage.iter = trainer.iter = step
            storage.put_scalar("total_loss", step**2)
            if step in (1, 7):
                storage.put_scalar("AP", 50.0 + step, smoothing_hint=False)
            states[step] = hook.state_dict()
            writer.after_step()
    return states


@pytest.fixture
def unbroken(tmp_path: Path) -> str:
    run(tmp_path / "unbroken.json", range(12))
    return (tmp_path / "unbroken.json").read_text()


@pytest.mark.parametrize("saved", range(12))
@pytest.mark.parametrize("survived", [0, 3])
def test_a_resumed_run_writes_the_lines_of_an_unbroken_one(
    saved: int, survived: int, unbroken: str, tmp_path: Path
):
    """Wherever it is killed: right after the checkpoint, or after more steps."""
    file = tmp_path / "metrics.json"
    killed = min(saved + survived, 11)
    state = run(file, range(killed + 1))[saved]
    run(file, range(saved + 1, 12), state)
    assert file.read_text() == unbroken


def test_the_last_write_of_a_run_is_dropped_when_it_is_continued(unbroken: str, tmp_path: Path):
    file = tmp_path / "metrics.json"
    state = run(file, range(5), max_iter=5)[4]
    assert json.loads(file.read_text().splitlines()[-1])["iteration"] == 4
    run(file, range(5, 12), state)
    assert file.read_text() == unbroken


def test_a_line_cut_off_by_a_kill_is_dropped(unbroken: str, tmp_path: Path):
    file = tmp_path / "metrics.json"
    state = run(file, range(7))[6]
    with file.open("a") as stream:
        stream.write('{"iteration": 8, "total')
    run(file, range(7, 12), state)
    assert file.read_text() == unbroken


def test_a_new_run_starts_an_empty_file(unbroken: str, tmp_path: Path):
    file = tmp_path / "metrics.json"
    run(file, range(9))
    run(file, range(12))
    assert file.read_text() == unbroken


def test_only_the_main_process_changes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "metrics.json"
    run(file, range(9))
    before = file.read_text()
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    hook = MetricHistoryHook(file, period=3)
    hook.trainer = SimpleNamespace(storage=EventStorage(), start_iter=0)
    hook.before_train()
    assert file.read_text() == before


@pytest.mark.parametrize("has_stopped", (False, True))
def test_metrics_of_a_step_cut_short_are_left_to_the_resumed_run(has_stopped: bool, tmp_path: Path):
    """A signal during the evaluation of step 2, before the metrics of that step are written."""
    file = tmp_path / "metrics.json"
    with EventStorage() as storage:
        preemption = SimpleNamespace(has_stopped=has_stopped)
        hook = MetricWriterHook([JSONWriter(str(file))], 20, preemption)
        hook.trainer = SimpleNamespace(iter=2, max_iter=12)
        storage.iter = 2
        storage.put_scalar("total_loss", 4.0)
        hook.after_train()
    assert bool(file.read_text()) is not has_stopped
