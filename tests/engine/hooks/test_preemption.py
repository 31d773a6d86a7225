"""A signal stops training after the step, or an evaluation immediately."""

import os
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.utils import comm

from clq.engine.hooks.preemption import PreemptionHook


def trainer_at(iteration: int, saved: list[tuple[str, int]]) -> Any:
    checkpointer = SimpleNamespace(save=lambda name, iteration: saved.append((name, iteration)))
    return SimpleNamespace(
        iter=iteration, max_iter=10, checkpointer=checkpointer, flag_counts=[0, 0]
    )


@pytest.fixture
def saved() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def hook(saved: list[tuple[str, int]]) -> Iterator[PreemptionHook]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = PreemptionHook()
    hook.trainer = trainer_at(4, saved)
    hook.before_train()
    yield hook
    hook.restore_handlers()
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_finished_and_saved(number: int, hook: PreemptionHook, saved: list):
    hook.after_step()
    os.kill(os.getpid(), number)
    assert not saved
    hook.trainer.iter = 5
    with pytest.raises(SystemExit) as stopped:
        hook.after_step()
    assert stopped.value.code == 128 + number and saved == [("model_0000005", 5)]


def test_a_rank_stops_when_the_reduction_of_the_step_says_so(
    hook: PreemptionHook, saved: list, monkeypatch: pytest.MonkeyPatch
):
    """And not on its own signal, which the other ranks don't know before the next step."""
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    os.kill(os.getpid(), signal.SIGINT)
    assert hook.flags() == [True, False]
    hook.after_step()
    hook.trainer.flag_counts = [0, 1]
    with pytest.raises(SystemExit) as stopped:
        hook.after_step()
    assert stopped.value.code == 128 + signal.SIGTERM and saved == [("model_0000004", 4)]


def test_an_evaluation_is_interrupted(hook: PreemptionHook, saved: list):
    hook.after_step()
    with pytest.raises(SystemExit), hook.stop_immediately():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert saved == [("model_0000004", 4)]


@pytest.mark.parametrize(
    "error, is_saved",
    (
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1234"), True),
        (RuntimeError("NCCL: remote process exited or there was a network error"), True),
        (RuntimeError("sizes of tensors must match"), False),
        (ValueError("reset by peer"), False),
    ),
)
def test_an_evaluation_that_lost_a_process_saves(
    error: Exception, is_saved: bool, hook: PreemptionHook, saved: list
):
    hook.after_step()
    with pytest.raises(type(error)), hook.stop_immediately():
        raise error
    assert saved == [("model_0000004", 4)] * is_saved


def test_no_evaluation_starts_after_a_signal(hook: PreemptionHook, saved: list):
    hook.after_step()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit), hook.stop_immediately():
        raise AssertionError("it was started")
    assert saved == [("model_0000004", 4)]


def test_the_last_step_is_left_to_the_checkpointer(hook: PreemptionHook, saved: list):
    hook.trainer.iter = 9
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        hook.after_step()
    assert saved == []


@pytest.mark.parametrize("numbers", [(2, 2), (15, 15), (2, 15)])
def test_a_second_signal_ends_at_once(
    numbers: tuple[int, int], hook: PreemptionHook, saved: list, monkeypatch: pytest.MonkeyPatch
):
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    os.kill(os.getpid(), numbers[0])
    os.kill(os.getpid(), numbers[0])  # the launcher forwards what the terminal has sent already
    clock[0] = 2.0
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), numbers[1])
        signal.getsignal(signal.SIGINT)
    assert ended.value.code == 128 + numbers[1] and not saved
