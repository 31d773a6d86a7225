"""Process-group setup for PyTorch and Detectron2."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.utils import comm

from ...utils.detectron2_private import set_local_process_group
from ..user_errors import is_peer_failure
from .cluster_env import Environment, RankInfo

MEETING_SECONDS = "CLQ_MEETING_SECONDS"  # environment variable: longest wait for all processes
_TIMEOUT = timedelta(minutes=10)  # of that wait, by default
_LONGEST_TIMEOUT = 10**9  # seconds
_COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # of what the processes do together after that
_NOTICE_SECONDS = 10
_PORT = "clq/port"


@contextlib.contextmanager
def process_group(info: RankInfo, gpu: int | None) -> Iterator[None]:
    """Join the process group for the duration of the context.

    Args:
        info: of this process.
        gpu: of this process, with NCCL; None is the CPU, with gloo.

    Raises:
        TimeoutError: the others did not all come within ``CLQ_MEETING_SECONDS``.
        ValueError: that is no number of seconds.
    """
    patience = meeting_timeout(os.environ)
    if gpu is not None:
        torch.cuda.set_device(gpu)
    # Otherwise rank 0 hosts the shared store, which ends with it.
    uses_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    has_agent_store = uses_agent and info.url == "env://"
    with _meeting(info, patience):
        if has_agent_store:
            store = _store_of_this_attempt(info, patience)
        else:
            place = dist.rendezvous(info.url, info.rank, info.world_size, timeout=patience)
            store, *_ = next(place)
        dist.init_process_group(
            backend="gloo" if gpu is None else "nccl",
            store=store,
            world_size=info.world_size,
            rank=info.rank,
            timeout=_COLLECTIVE_TIMEOUT,
        )
    try:
        with _meeting(info, patience):
            _create_local_process_group(info.node)
            comm.synchronize()
        store.set_timeout(_COLLECTIVE_TIMEOUT)
        yield
    finally:
        dist.destroy_process_group()


def meeting_timeout(environment: Environment) -> timedelta:
    """Read how long a process waits for all others when a run starts, 10 minutes by default.

    Raises:
        ValueError: ``CLQ_MEETING_SECONDS`` is no positive whole number.
    """
    text = environment.get(MEETING_SECONDS)
    if text is None:
        return _TIMEOUT
    if not text.isdecimal() or not 0 < int(text) < _LONGEST_TIMEOUT:
        raise ValueError(f"{MEETING_SECONDS} is '{text}'; it must be a positive number of seconds.")
    return timedelta(seconds=int(text))


@contextlib.contextmanager
def _meeting(info: RankInfo, patience: timedelta) -> Iterator[None]:
    """Wait for the other processes: say so after a while, and end at once on Ctrl-C."""
    place = info.url
    if place == "env://":
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    who = f"process {info.rank} of {info.world_size}"
    said = f"{who} waits for the others at {place}, {patience} at most; Ctrl-C ends it."
    notice = threading.Timer(_NOTICE_SECONDS, print, (said,), {"file": sys.stderr, "flush": True})
    notice.daemon = True
    notice.start()
    is_main = threading.current_thread() is threading.main_thread()
    # PyTorch waits outside of Python, whose own handler would run only after that.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if is_main else None
    try:
        yield
    except (RuntimeError, OSError) as error:
        if is_peer_failure(error):
            raise
        reason = str(error).partition("\n")[0].rstrip(".")
        raise TimeoutError(
            f"{who} did not meet the others at {place} within {patience} ({reason}); check "
            "that the first process runs and that its address can be reached from here. "
            f"{MEETING_SECONDS} sets how long to wait."
        ) from error
    finally:
        notice.cancel()
        if is_main:
            signal.signal(signal.SIGINT, before)


def _store_of_this_attempt(info: RankInfo, patience: timedelta) -> dist.Store:
    """Open a store on rank 0 for the rendezvous of this attempt.

    torchrun's own store survives a restart, with the addresses of dead processes, for which
    others could wait. It is used only to publish the port of the new store.
    """
    shared, *_ = next(dist.rendezvous("env://", timeout=patience))
    host = os.environ["MASTER_ADDR"]
    if info.rank == 0:
        store = dist.TCPStore(host, 0, is_master=True, timeout=patience)
        shared.set(_PORT, str(store.port))
        return store
    deadline = time.monotonic() + patience.seconds
    while True:
        port = int(shared.get(_PORT))
        try:
            socket.create_connection((host, port), timeout=patience.seconds).close()
        except OSError:  # the port of a dead process, until rank 0 publishes its own
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return dist.TCPStore(host, port, is_master=False, timeout=patience)


def _create_local_process_group(node: int) -> None:
    """Create Detectron2's local process groups; nodes may differ in local world size."""
    nodes = comm.all_gather(node)
    for each in sorted(set(nodes)):
        group = dist.new_group([rank for rank, of in enumerate(nodes) if of == each])
        if each == node:
            set_local_process_group(group)
