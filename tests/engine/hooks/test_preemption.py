"""Signals end a training after its step, or an evaluation at once."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch

from clq.engine.hooks.preemption import StopOnSignal, Stopped


@pytest.fixture
def saved() -> list[int]:
    return []


@pytest.fixture
def hook(saved: list[int]) -> StopOnSignal:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = StopOnSignal(saved.append, torch.device("cpu"))
    hook.trainer = SimpleNamespace(iter=4, max_iter=10)
    hook.before_train()
    yield hook
    hook.restore_handlers()
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_step_is_finished_and_saved(number: int, hook: StopOnSignal, saved: list[int]):
    hook.after_step()
    os.kill(os.getpid(), number)
    assert not saved
    hook.trainer.iter = 5
    with pytest.raises(Stopped) as stopped:
        hook.after_step()
    assert stopped.value.code == 128 + number and saved == [5]


def test_an_evaluation_is_left_at_once(hook: StopOnSignal, saved: list[int]):
    hook.after_step()
    with pytest.raises(Stopped), hook.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert saved == [4]


def test_an_evaluation_is_not_begun_after_a_signal(hook: StopOnSignal, saved: list[int]):
    hook.after_step()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped), hook.at_once():
        raise AssertionError("it was begun")
    assert saved == [4]


def test_the_last_step_is_saved_by_the_checkpointer(hook: StopOnSignal, saved: list[int]):
    hook.trainer.iter = 9
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        hook.after_step()
    assert saved == []
