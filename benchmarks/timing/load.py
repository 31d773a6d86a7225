"""CPU load by other programs, from the counters of Linux."""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


class OtherLoad:
    """Watches what other programs take of the processor time that all cores have together.

    Other work is all that the machine was busy with, time that a hypervisor took (steal) included,
    but for this process and those that it started. Elsewhere than on Linux it is unknown.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._others = _machine_seconds() - own_seconds()

    def share(self) -> float:
        """Share of all processor time since this object's start, from 0 to 1; NaN where unknown."""
        others = _machine_seconds() - own_seconds() - self._others
        available = (time.perf_counter() - self._start) * (os.cpu_count() or 1)
        # The machine counts in ticks of 10 ms, so that the difference can be a little below 0.
        return others if math.isnan(others) else max(others, 0.0) / available


def own_seconds() -> float:
    """Processor time of this process, of its children that ended and of those that still run."""
    times = os.times()
    ended = times.children_user + times.children_system
    running = sum(_seconds(pid) for pid in _descendants(os.getpid()))
    return time.process_time() + ended + running


def _machine_seconds() -> float:
    """Time that all cores were not idle since the start of the machine; NaN where unknown."""
    try:
        counters = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return math.nan
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counters[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> Iterator[int]:
    """Children of all threads of a process that still run, and theirs."""
    for listing in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            children = [int(child) for child in listing.read_text().split()]
        except OSError:  # the thread has ended since
            continue
        for child in children:
            yield child
            yield from _descendants(child)


def _seconds(pid: int) -> float:
    """Processor time of a running process and of its children that ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:  # it has ended since
        return 0.0
    fields = text.rpartition(")")[2].split()  # the name before may hold spaces; state is first
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
