"""When a training evaluates."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage

from clq.engine.evaluating import Evaluate
from clq.engine.stopping import StopOnSignal


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
