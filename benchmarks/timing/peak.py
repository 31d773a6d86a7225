"""Peak memory of a piece of work, in a process of its own."""

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from .turns import Run

_PROC = Path("/proc/self")
MEGABYTE = 1e6  # bytes


class Peak(NamedTuple):
    """Resident memory in MB (10^6 bytes)."""

    whole: float  # of the process at its peak during the work
    growth: float  # the same less what was resident before the work


def peak(prepare: Callable[[], Run], threads: int) -> Peak:
    """Peak of one call of what ``prepare`` gives. To be called in a new process.

    Read from VmHWM, set back after the preparation. ``ru_maxrss`` would not do: a process inherits
    it from the one that started it.

    Args:
        prepare: makes inputs and models, and calls small what loads code or starts threads.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    run = prepare()
    gc.collect()
    _give_back_free_memory()
    with contextlib.suppress(OSError):  # where it may not, the preparation's peak counts too
        (_PROC / "clear_refs").write_text("5")  # VmHWM starts again from what is resident now
    before = _status("VmRSS")
    run()
    whole = _status("VmHWM")
    return Peak(whole, whole - before)


def _status(name: str) -> float:
    """A line of the process's status that is in kB (1024 bytes), in MB."""
    for line in (_PROC / "status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    raise RuntimeError(f"{_PROC / 'status'} has no line of {name}.")


def _give_back_free_memory() -> None:
    """Else the work would reuse what the preparation freed, and seem not to grow."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
