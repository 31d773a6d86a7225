"""Files of the final and the best weights."""

import logging
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from detectron2.utils import comm
from torch import nn

from clq.checkpoint.read_file import read_file
from clq.engine.hooks.model_files import FinalWeightsHook, ModelFile, is_best, keep_best

NAN = math.nan


@pytest.mark.parametrize(("step", "written"), [(3, False), (4, True)])
def test_final_weights_are_written_after_the_last_step(step: int, written: bool, tmp_path: Path):
    path, model = tmp_path / "model_final.safetensors", nn.Linear(2, 3)
    hook = FinalWeightsHook(ModelFile(path, model, config="VERSION: 2\n", class_names=["a"]))
    hook.trainer = SimpleNamespace(iter=step, max_iter=4)
    hook.after_train()
    assert path.exists() == written
    if written:
        content = read_file(path)
        assert (content["config"], content["class_names"]) == ("VERSION: 2\n", ["a"])
        assert content["model"]["weight"].equal(model.weight)


def test_only_rank_0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    ModelFile(tmp_path / "a.safetensors", nn.Linear(1, 1), config="", class_names=[]).write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.0], [True]),
        ([0.0, 0.0, 0.1, 0.1, 0.05], [True, False, True, False, False]),
        ([3.0, NAN, 2.0, 4.0], [True, False, False, True]),
        ([NAN, NAN, 0.0, NAN], [False, False, True, False]),
    ],
)
def test_the_best_score_is_above_all_earlier_ones(scores: list[float], best: list[bool]):
    by_iteration = {10 * (i + 1): score for i, score in enumerate(scores)}
    assert [is_best(by_iteration, iteration) for iteration in by_iteration] == best


class Training:
    """A training whose model has its number of steps as its weight."""

    def __init__(self, path: Path, scores: dict[int, float] | None = None) -> None:
        self.path, self.scores, self.model = path, dict(scores or {}), nn.Linear(1, 1)
        self.file = ModelFile(path, self.model, config="SEED: 1\n", class_names=["a"])

    def score(self, steps: int, score: float) -> float | None:
        """Take the score of an evaluation; returns the weight that is written then."""
        nn.init.constant_(self.model.weight, steps)
        self.scores[steps] = score
        keep_best(self.file, self.scores, steps)
        return float(read_file(self.path)["model"]["weight"]) if self.path.exists() else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model_best.safetensors"


def test_the_best_model_is_written(path: Path):
    training, scores = Training(path), {2: 0.0, 4: 2.0, 5: 1.5, 6: NAN, 8: 2.5}
    assert [training.score(*item) for item in scores.items()] == [2, 4, 4, 4, 8]


def test_the_best_score_survives_a_resume(path: Path):
    before = Training(path)
    before.score(1, 2.0)
    resumed = Training(path, before.scores)
    assert [resumed.score(2, 1.5), resumed.score(3, 2.1)] == [1, 3]


def test_an_evaluation_repeated_on_resume_is_the_best_again(path: Path):
    assert Training(path, {1: 1.0, 2: 2.0}).score(2, 2.0) == 2


def test_data_without_objects_gives_one_warning(path: Path, caplog: pytest.LogCaptureFixture):
    training = Training(path)
    assert [training.score(steps, NAN) for steps in range(1, 4)] == [None] * 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "model_best.safetensors waits for one" in caplog.text
