"""Early stopping, and the state in which it leaves the trainer."""

import logging
import math
from types import SimpleNamespace

import pytest
from detectron2.engine import HookBase, TrainerBase

from clq.engine.hooks.early_stopping import (
    EarlyStoppingHook,
    TrainingDone,
    evaluations_without_gain,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "min_gain", "count"),
    [
        ([], 0.0, 0),
        ([0.0], 0.0, 0),
        ([0.0, 0.0, 0.0], 0.0, 2),
        ([1.0, 0.5, 0.9, 1.1], 0.0, 0),
        ([1.0, 1.1, 1.0, 1.05], 0.0, 2),
        ([1.0, 1.1, 1.0, 1.05], 0.25, 3),
        ([1.0, 1.25, 1.5], 0.25, 0),  # 1.5 exceeds the 1.0 that gained last
        ([1.0, 1.25], 0.25, 1),  # a gain is more than that
        ([NAN, NAN], 0.0, 0),
        ([2.0, NAN, 1.0, NAN], 0.0, 1),
        ([NAN, 2.0, NAN, 3.0], 0.0, 0),
    ],
)
def test_evaluations_since_the_last_gain(scores: list[float], min_gain: float, count: int):
    by_iteration = {10 * (i + 1): score for i, score in enumerate(scores)}
    assert evaluations_without_gain(by_iteration, min_gain) == count
    backwards = dict(reversed(by_iteration.items()))
    assert evaluations_without_gain(backwards, min_gain) == count


class Evaluating(HookBase):
    """Stands for the evaluation hook; evaluates every other step."""

    def __init__(self, aps: list[float], scores: dict[int, float] | None = None) -> None:
        self.aps = iter(aps)
        self.scores = dict(scores or {})

    def after_step(self) -> None:
        if self.trainer.iter % 2 == 1:
            self.scores[self.trainer.iter + 1] = next(self.aps)


class Trainer(TrainerBase):
    """Detectron2's training loop with empty steps."""

    def __init__(self, hooks: list[HookBase]) -> None:
        super().__init__()
        self.saved: list[tuple[str, int, int]] = []
        self.checkpointer = SimpleNamespace(save=self.save)
        self.register_hooks(hooks)

    def save(self, name: str, iteration: int) -> None:
        self.saved.append((name, iteration, self.state_dict()["iteration"]))

    def run_step(self) -> None:
        pass


def trainer_with(evaluating: Evaluating, patience: int, min_gain: float = 0.0) -> Trainer:
    return Trainer([evaluating, EarlyStoppingHook(evaluating, patience, min_gain)])


def test_training_ends_without_a_gain(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    evaluating = Evaluating([1.0, 2.0, 1.5, 2.0, 9.0])
    trainer = trainer_with(evaluating, patience=2)
    with pytest.raises(TrainingDone):
        trainer.train(0, 100)
    assert list(evaluating.scores) == [2, 4, 6, 8]
    assert trainer.saved == [("model_final", 7, 7)]
    # As after the last step: hooks take the training for complete.
    assert trainer.iter == trainer.max_iter == trainer.storage.iter == 8
    assert "The last 2 evaluations brought no gain in AP; the training ends." in caplog.text
    assert "Exception during training" not in caplog.text


def test_training_continues_while_there_are_gains():
    trainer = trainer_with(Evaluating([1.0, 1.1, 1.2, 1.3, 1.2]), patience=2)
    trainer.train(0, 10)
    assert trainer.iter == 10 and trainer.saved == []
    with pytest.raises(TrainingDone):
        trainer_with(Evaluating([1.0, 1.1, 1.2, 1.3]), patience=2, min_gain=0.5).train(0, 10)


def test_a_resumed_run_counts_earlier_evaluations():
    trainer = trainer_with(Evaluating([1.5], scores={2: 1.0, 4: 2.0, 6: 1.5}), patience=2)
    with pytest.raises(TrainingDone):
        trainer.train(6, 100)
    assert trainer.iter == 8


def test_a_stopped_training_stops_again_when_resumed():
    """The trainer repeats the hooks that follow the checkpoint."""
    stopping = EarlyStoppingHook(SimpleNamespace(scores={2: 2.0, 4: 1.0}), patience=1)
    trainer = Trainer([stopping])
    trainer.iter = 3
    with pytest.raises(TrainingDone):
        stopping.after_step()
    assert trainer.iter == trainer.max_iter == 4
    more_patience = EarlyStoppingHook(SimpleNamespace(scores={2: 2.0, 4: 1.0}), patience=2)
    more_patience.after_step()
