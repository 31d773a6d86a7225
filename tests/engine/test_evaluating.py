"""When a training evaluates."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage

from clq.engine.evaluating import Evaluate
from clq.engine.stopping import StopOnSignal, Stopped


@pytest.mark.parametrize(("iteration", "evaluates"), [(4, False), (9, False), (10, True)])
def test_only_a_complete_training_is_evaluated_at_its_end(iteration: int, evaluates: bool):
    calls = []
    stop = StopOnSignal(lambda iteration: None, torch.device("cpu"))
    hook = Evaluate(3, lambda: calls.append(1) or {"AP": 1.0}, stop)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(iter=iteration, max_iter=10, storage=storage)
        hook.after_train()
    assert calls == [1] * evaluates
    assert not hasattr(hook, "_func"), "it would hold the trainer"


def test_a_signal_stops_an_evaluation_in_its_midst():
    def evaluate() -> dict:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        return {}

    saved: list[int] = []
    stop = StopOnSignal(saved.append, torch.device("cpu"))
    hook = Evaluate(3, evaluate, stop)
    hook.trainer = stop.trainer = SimpleNamespace(iter=2, max_iter=10)
    stop.before_train()
    try:
        stop.after_step()
        with pytest.raises(Stopped) as stopped:
            hook.after_step()
    finally:
        stop.restore_handlers()
    assert stopped.value.code == 128 + signal.SIGTERM and saved == [2]
