"""All random number generators go on where they were."""

import io
import random

import numpy as np
import pytest
import torch

from clq.engine.rng_state import get_random_state, set_random_state


def draw() -> list[float]:
    return [random.gauss(0, 1), float(np.random.randn()), float(torch.randn(()))]


def through_a_file(state: dict) -> dict:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_draws_repeat():
    draw()  # normal deviates come in pairs, of which one is kept
    state = through_a_file(get_random_state())
    first = draw()
    assert draw() != first
    set_random_state(state)
    assert draw() == first


def test_other_processes_get_draws_of_their_own(monkeypatch: pytest.MonkeyPatch):
    state = get_random_state()
    draws = []
    for rank in (0, 1, 2, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        set_random_state(state)
        draws.append(tuple(draw()))
    assert len(set(draws)) == 3 and draws[1] == draws[3]


def test_a_run_on_cpu_leaves_the_gpus_alone(monkeypatch: pytest.MonkeyPatch):
    """Asking a GPU for its state would make it hold memory for the process."""

    def refuse(*args: object) -> None:
        raise AssertionError("the GPU was asked")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", refuse)
    monkeypatch.setattr(torch.cuda, "set_rng_state", refuse)
    state = get_random_state()
    assert "cuda" not in state
    set_random_state({**state, "cuda": state["torch"]})
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(AssertionError, match="asked"):
        get_random_state()
    with pytest.raises(AssertionError, match="asked"):
        set_random_state({**state, "cuda": state["torch"]})
