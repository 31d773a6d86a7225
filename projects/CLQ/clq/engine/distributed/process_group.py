"""How the processes of a run get to know each other, in PyTorch and Detectron2."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.utils import comm

from .cluster_env import Place

__all__ = ["process_group"]

_TIMEOUT = timedelta(minutes=30)
_PORT = "clq/port"


@contextlib.contextmanager
def process_group(place: Place, gpu: int | None) -> Iterator[None]:
    """Be one of several processes inside, which all come to the same places.

    Args:
        place: of this process.
        gpu: of this process, for NCCL; None is the CPU, for gloo.
    """
    if gpu is not None:
        torch.cuda.set_device(gpu)
    # Elsewhere the first process would serve the shared store, and take it away with itself.
    of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and (
        place.url == "env://"
    )
    dist.init_process_group(
        backend="gloo" if gpu is None else "nccl",
        init_method=None if of_torchrun else place.url,
        store=_store_of_this_start(place) if of_torchrun else None,
        world_size=place.world_size,
        rank=place.rank,
        timeout=_TIMEOUT,
    )
    try:
        _create_local_process_group(place.machine)
        comm.synchronize()
        yield
    finally:
        dist.destroy_process_group()


def _store_of_this_start(place: Place) -> dist.Store:
    """A store of the first process, for what the processes must tell each other to meet.

    The one of torchrun survives a restart, with the addresses of processes that have died, for
    which others could wait: it tells nothing but the port of the first process's store.
    """
    shared, *_ = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    host = os.environ["MASTER_ADDR"]
    if place.rank == 0:
        store = dist.TCPStore(host, 0, is_master=True, timeout=_TIMEOUT)
        shared.set(_PORT, str(store.port))
        return store
    deadline = time.monotonic() + _TIMEOUT.seconds
    while True:
        port = int(shared.get(_PORT))
        try:
            socket.create_connection((host, port), timeout=_TIMEOUT.seconds).close()
        except OSError:  # of a process that has died; another will tell its port
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return dist.TCPStore(host, port, is_master=False, timeout=_TIMEOUT)


def _create_local_process_group(machine: int) -> None:
    """Tell Detectron2 which processes share a machine; machines may have different numbers."""
    machines = comm.all_gather(machine)
    for each in sorted(set(machines)):
        group = dist.new_group([rank for rank, of in enumerate(machines) if of == each])
        if each == machine:
            comm._LOCAL_PROCESS_GROUP = group
