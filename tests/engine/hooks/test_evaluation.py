"""When a training evaluates, and what it remembers of it."""

import math
import os
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from clq.engine.hooks.evaluation import Evaluate, score_name
from clq.engine.hooks.preemption import StopOnSignal, Stopped


@pytest.fixture
def storage() -> Iterator[EventStorage]:
    with EventStorage() as storage:
        yield storage


def hook_in_training(
    storage: EventStorage, aps: list[float], *, period: int = 3, max_iter: int = 10, **options: Any
) -> Evaluate:
    """A hook whose evaluations give one AP after the other."""
    remaining = iter(aps)
    stop = StopOnSignal(lambda iteration: None)
    hook = Evaluate(period, lambda: {"bbox": {"AP": next(remaining)}}, stop, **options)
    hook.trainer = SimpleNamespace(iter=0, max_iter=max_iter, storage=storage)
    return hook


def run(hook: Evaluate, steps: range) -> None:
    """Take steps as the trainer does, and end after them."""
    trainer = hook.trainer
    for trainer.iter in steps:
        trainer.storage.iter = trainer.iter
        hook.after_step()
    trainer.iter += 1
    hook.after_train()


def test_scores_are_kept_by_the_number_of_iterations_done(storage: EventStorage):
    hook = hook_in_training(storage, [1.0, 0.0, 2.5, 2.0])
    run(hook, range(10))
    assert hook.scores == {3: 1.0, 6: 0.0, 9: 2.5, 10: 2.0} and hook.latest == 10


@pytest.mark.parametrize(("last", "evaluates"), [(4, False), (8, False), (9, True)])
def test_only_a_complete_training_is_evaluated_at_its_end(
    last: int, evaluates: bool, storage: EventStorage
):
    hook = hook_in_training(storage, [1.0], period=0)
    run(hook, range(last + 1))
    assert hook.scores == ({10: 1.0} if evaluates else {})
    assert not hasattr(hook, "_func"), "it would hold the trainer"


def test_a_training_that_ends_behind_an_evaluation_is_not_evaluated_again(storage: EventStorage):
    hook = hook_in_training(storage, [1.0, 2.0])
    hook.trainer.iter = 5
    hook.after_step()
    hook.trainer.iter = hook.trainer.max_iter = 6
    hook.after_train()
    assert hook.scores == {6: 1.0} and not hasattr(hook, "_func")


def test_a_resumed_training_goes_on_with_the_scores(storage: EventStorage):
    """And evaluates again where it was stopped, in the midst of an evaluation perhaps."""
    hook = hook_in_training(storage, [1.0, 2.0])
    hook.load_state_dict({"scores": {3: 0.5, 6: 9.0}})
    assert hook.latest is None
    run(hook, range(5, 7))
    assert hook.scores == {3: 0.5, 6: 1.0} and hook.latest == 6
    state = hook.state_dict()
    hook.scores[9] = 3.0
    assert state == {"scores": {3: 0.5, 6: 1.0}}


def test_a_complete_training_that_is_resumed_is_evaluated_at_its_end(storage: EventStorage):
    hook = hook_in_training(storage, [1.0], max_iter=6)
    hook.load_state_dict({"scores": {3: 0.5, 6: 9.0}})
    run(hook, range(5, 6))
    assert hook.scores == {3: 0.5, 6: 1.0}


def test_each_evaluation_has_its_prefix_and_one_gives_the_score(storage: EventStorage):
    more = {"ema": lambda: {"bbox": {"AP": 7.0}}, "validation": lambda: {"loss_cls": 0.25}}
    hook = hook_in_training(storage, [1.0], more=more, score=score_name(["val"], "ema"))
    hook.trainer.iter = storage.iter = 2
    hook.after_step()
    latest = {name: value for name, (value, _) in storage.latest().items()}
    assert latest == {"bbox/AP": 1.0, "ema/bbox/AP": 7.0, "validation/loss_cls": 0.25}
    assert hook.scores == {3: 7.0}


@pytest.mark.parametrize("prefix", ["", "ema"])
@pytest.mark.parametrize("names", [["val"], ["a", "b"]])
def test_the_score_is_named_as_the_log_names_it(names: list[str], prefix: str):
    results: dict[str, Any] = {name: {"bbox": {"AP": i}} for i, name in enumerate(names)}
    results = results["val"] if len(names) == 1 else results  # as DefaultTrainer.test
    flat = flatten_results_dict({prefix: results} if prefix else results)
    assert flat[score_name(names, prefix)] == 0


def test_data_without_objects_has_no_score(storage: EventStorage):
    hook = hook_in_training(storage, [], score="other/bbox/AP", max_iter=1)
    hook._func = lambda: {"bbox": {}}
    run(hook, range(1))
    assert list(hook.scores) == [1] and math.isnan(hook.scores[1])


def test_all_processes_know_the_score_of_the_main_one(
    storage: EventStorage, monkeypatch: pytest.MonkeyPatch
):
    own: list[float] = []
    monkeypatch.setattr(comm, "all_gather", lambda value: own.append(value) or [4.0, value])
    hook = hook_in_training(storage, [], max_iter=1)
    hook._func = dict  # what an evaluation gives in another process
    run(hook, range(1))
    assert math.isnan(own[0]) and hook.scores == {1: 4.0}


def test_a_signal_stops_an_evaluation_in_its_midst(storage: EventStorage):
    def evaluate() -> dict:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        return {}

    saved: list[int] = []
    stop = StopOnSignal(saved.append)
    hook = Evaluate(3, evaluate, stop)
    hook.trainer = stop.trainer = SimpleNamespace(iter=2, max_iter=10, storage=storage)
    stop.before_train()
    try:
        stop.after_step()
        with pytest.raises(Stopped) as stopped:
            hook.after_step()
    finally:
        stop.restore_handlers()
    assert stopped.value.code == 128 + signal.SIGTERM and saved == [2]
    assert hook.scores == {} and hook.latest is None
