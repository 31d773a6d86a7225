"""Which evaluation's detector is kept."""

import logging
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from detectron2.utils import comm
from torch import nn

from clq.checkpoint.read_file import read_file
from clq.engine.hooks.best_checkpoint import KeepBest, is_best

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.0], [True]),
        ([0.0, 0.0, 0.1, 0.1, 0.05], [True, False, True, False, False]),
        ([3.0, NAN, 2.0, 4.0], [True, False, False, True]),
        ([NAN, NAN, 0.0, NAN], [False, False, True, False]),
    ],
)
def test_the_best_is_a_number_above_all_before(scores: list[float], best: list[bool]):
    by_iteration = {10 * (i + 1): score for i, score in enumerate(scores)}
    assert [is_best(by_iteration, iterations) for iterations in by_iteration] == best


class Keeping:
    """A hook in training, whose model is as old as its weight says."""

    def __init__(self, path: Path, scores: dict[int, float] | None = None) -> None:
        self.path = path
        self.model = nn.Linear(1, 1)
        self.evaluate = SimpleNamespace(scores=dict(scores or {}), latest=None)
        self.hook = KeepBest(path, self.model, "SEED: 1\n", ["a"], self.evaluate)

    def step(self, age: int, score: float | None = None, *, ends: bool = False) -> None:
        """A step, or the end, with an evaluation or without."""
        nn.init.constant_(self.model.weight, age)
        if score is not None:
            self.evaluate.scores[age], self.evaluate.latest = score, age
        (self.hook.after_train if ends else self.hook.after_step)()

    @property
    def kept(self) -> float | None:
        if not self.path.exists():
            return None
        return float(read_file(self.path)["model"]["weight"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model_best.safetensors"


def test_the_file_holds_the_best_detector_with_all_that_inference_needs(path: Path):
    keeping = Keeping(path)
    seen = []
    for age, score in enumerate([None, 0.0, None, 2.0, 1.5, NAN, None, 2.5], start=1):
        keeping.step(age, score)
        seen.append(keeping.kept)
    assert seen == [None, 2, 2, 4, 4, 4, 4, 8]
    keeping.step(9, 3.0, ends=True)
    assert keeping.kept == 9
    written = read_file(path)
    assert written["class_names"] == ["a"] and written["config"] == "SEED: 1\n"


def test_the_end_keeps_nothing_that_was_not_evaluated(path: Path):
    keeping = Keeping(path)
    keeping.step(1, 1.0)
    keeping.step(2, ends=True)
    assert keeping.kept == 1


def test_the_best_survives_a_resume(path: Path):
    before = Keeping(path)
    before.step(1, 2.0)
    resumed = Keeping(path, before.evaluate.scores)
    resumed.step(1)
    resumed.step(2, 1.5)
    assert resumed.kept == 1
    resumed.step(3, 2.1)
    assert resumed.kept == 3


def test_an_evaluation_that_a_resumed_training_repeats_is_the_best_again(path: Path):
    resumed = Keeping(path, {1: 1.0, 2: 2.0})
    resumed.step(2, 2.0)
    assert resumed.kept == 2


def test_data_without_objects_is_told_once(path: Path, caplog: pytest.LogCaptureFixture):
    keeping = Keeping(path)
    for age in range(1, 4):
        keeping.step(age, NAN)
    assert keeping.kept is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "model_best.safetensors waits for one" in caplog.text


def test_the_main_process_writes(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    keeping = Keeping(path)
    keeping.step(1, 1.0)
    assert keeping.kept is None
