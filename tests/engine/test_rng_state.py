"""Random number generators continue from a saved state."""

import io
import random

import numpy as np
import pytest
import torch

from clq.engine.rng_state import get_rng_state, set_rng_state


def draw() -> list[float]:
    return [random.gauss(0, 1), float(np.random.randn()), float(torch.randn(()))]


def through_a_file(state: dict) -> dict:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_random_numbers_repeat():
    draw()  # normal deviates are generated in pairs; one is kept
    state = through_a_file(get_rng_state())
    first = draw()
    assert draw() != first
    set_rng_state(state)
    assert draw() == first


def test_each_rank_gets_its_own_random_numbers(monkeypatch: pytest.MonkeyPatch):
    state = get_rng_state()
    draws = []
    for rank in (0, 1, 2, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        set_rng_state(state)
        draws.append(tuple(draw()))
    assert len(set(draws)) == 3 and draws[1] == draws[3]


def test_a_run_on_cpu_does_not_initialize_cuda(monkeypatch: pytest.MonkeyPatch):
    """It would take GPU memory."""

    def fail(*args: object) -> None:
        raise AssertionError("the GPU was asked")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", fail)
    monkeypatch.setattr(torch.cuda, "set_rng_state", fail)
    state = get_rng_state()
    assert "cuda" not in state
    set_rng_state({**state, "cuda": state["torch"]})
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(AssertionError, match="asked"):
        get_rng_state()
    with pytest.raises(AssertionError, match="asked"):
        set_rng_state({**state, "cuda": state["torch"]})
