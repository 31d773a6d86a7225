"""The curves of a training go on where they were."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from detectron2.utils.events import EventStorage, JSONWriter

from clq.engine.hooks.metric_history import KeepHistory


def run(file: Path, steps: range, state: dict[str, Any] | None = None, save_at: int = -1) -> Any:
    """Log steps as a trainer does, writing after every third; the state after one of them."""
    saved = None
    with EventStorage(steps.start) as storage:
        writer = JSONWriter(str(file), window_size=20)
        hook = KeepHistory(file, [writer])
        hook.trainer = SimpleNamespace(storage=storage, iter=steps.start)
        if state:
            hook.load_state_dict(json.loads(json.dumps(state)))
        hook.before_train()
        for step in steps:
            storage.iter = step
            storage.put_scalar("total_loss", step**2)
            if step == 2:
                storage.put_scalar("AP", 50.0, smoothing_hint=False)
            if step == save_at:
                saved = hook.state_dict()
            if step % 3 == 2:
                writer.write()
        writer.close()
    return saved


def test_lines_are_those_of_an_unbroken_run(tmp_path: Path):
    run(tmp_path / "one.json", range(0, 12))
    state = run(tmp_path / "two.json", range(0, 9), save_at=4)
    assert (tmp_path / "two.json").stat().st_size > state["metrics_size"] > 0
    run(tmp_path / "two.json", range(5, 12), state)
    assert (tmp_path / "two.json").read_text() == (tmp_path / "one.json").read_text()


def test_a_line_that_was_cut_off_is_no_obstacle(tmp_path: Path):
    run(tmp_path / "one.json", range(0, 12))
    state = run(tmp_path / "two.json", range(0, 7), save_at=6)
    with (tmp_path / "two.json").open("a") as file:
        file.write('{"iteration": 8, "total')
    run(tmp_path / "two.json", range(7, 12), state)
    assert (tmp_path / "two.json").read_text() == (tmp_path / "one.json").read_text()


def test_a_training_that_starts_anew_starts_an_empty_file(tmp_path: Path):
    run(tmp_path / "one.json", range(0, 6))
    run(tmp_path / "two.json", range(0, 9))
    run(tmp_path / "two.json", range(0, 6))
    assert (tmp_path / "two.json").read_text() == (tmp_path / "one.json").read_text()
