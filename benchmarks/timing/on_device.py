"""Time calls on a device: by CUDA's events, or on CPU, to try the command, by the clock."""

import gc
import statistics
import time
from typing import NamedTuple

import torch

from .peak import MEGABYTE
from .turns import Run

# Calls on a GPU. The first ones choose algorithms and ask for memory.
_WARM_UP, _LEAST = 3, 3


class Calls(NamedTuple):
    """Times of the calls of a piece of work."""

    milliseconds: list[float]  # of each
    peak_mb: float | None  # of 10^6 bytes, allocated on the device; unknown on CPU

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)


class Clock:
    """Times calls one by one: each begins when the device has nothing left to do."""

    def __init__(self, device: torch.device, *, seconds: float, most: int) -> None:
        """
        Args:
            device: where the work is done.
            seconds: after which no further call is begun; three are made in any case. On CPU it is
                one, not warmed up.
            most: calls.
        """
        self._is_cuda = device.type == "cuda"
        self._device = device
        self._seconds, self._most = seconds, most
        self._least, self._warm_up = (_LEAST, _WARM_UP) if self._is_cuda else (1, 0)

    def time(self, run: Run) -> Calls:
        """Warm up, then call as often as time allows.

        The peak is that of all calls and holds what was allocated before, as weights.
        """
        for _ in range(self._warm_up):
            run()
        self._synchronize()
        if self._is_cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        found: list[float] = []
        begin = time.perf_counter()
        while len(found) < self._most:
            if len(found) >= self._least and time.perf_counter() - begin > self._seconds:
                break
            found.append(self._events(run) if self._is_cuda else _seconds(run) * 1000)
        peak = torch.cuda.max_memory_allocated(self._device) / MEGABYTE if self._is_cuda else None
        return Calls(found, peak)

    def _events(self, run: Run) -> float:
        """Milliseconds between two events around a call."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        self._synchronize()
        return start.elapsed_time(end)

    def _synchronize(self) -> None:
        if self._is_cuda:
            torch.cuda.synchronize(self._device)


def _seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def give_back_memory() -> None:
    """Free what nothing refers to, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
