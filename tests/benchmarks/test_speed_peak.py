"""Peaks are those of the work, in a process of its own."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
import torch

from benchmarks.timing.peak import MEGABYTE, Peak, peak


def allocate(megabytes: int) -> None:
    torch.ones(int(megabytes * MEGABYTE) // 4)


def prepare(megabytes: int, before: int) -> Callable[[], None]:
    """Allocates and frees something before, and then in the work."""
    assert torch.get_num_threads() == 3
    allocate(before)
    return partial(allocate, megabytes)


def peak_apart(prepare: Callable[[], Callable[[], object]]) -> Peak:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(peak, prepare, 3).result()


def test_growth_is_that_of_the_work():
    mine = torch.ones(int(1000 * MEGABYTE) // 4)  # no memory of this process counts
    found = peak_apart(partial(prepare, 100, before=0))
    assert found.growth == pytest.approx(100, abs=10)
    assert 100 < found.whole - found.growth < 900
    assert len(mine)


def pieces(megabytes: int) -> list[torch.Tensor]:
    return [torch.ones(12_500) for _ in range(megabytes * 20)]  # 50 kB each


def prepare_in_pieces(megabytes: int) -> Callable[[], list[torch.Tensor]]:
    """Frees what the system does not get back by itself, as the last piece stays."""
    last = pieces(megabytes)[-1]
    return lambda: [*pieces(megabytes), last]


def test_the_preparation_does_not_count():
    found = peak_apart(partial(prepare, 50, before=1000))
    assert found.growth == pytest.approx(50, abs=10)
    assert found.whole < 1000


def test_the_work_does_not_live_on_what_the_preparation_freed():
    assert peak_apart(partial(prepare_in_pieces, 100)).growth == pytest.approx(100, abs=10)
