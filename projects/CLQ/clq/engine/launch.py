"""Start the processes of a run: NCCL where there is CUDA, gloo where there is none."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any
from urllib.parse import urlparse

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

from .errors import lost_another_process
from .stopping import SIGNALS

_TIMEOUT = timedelta(minutes=30)
_GRACE = 10  # seconds


def launch(
    main: Callable[..., Any],
    num_processes: int,
    *,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str,
    on_cuda: bool,
    args: tuple = (),
) -> Any:
    """Call ``main(*args)`` in every process of a run; must be called on each of its machines.

    Detectron2's launcher of this name assumes CUDA. Ctrl-C and SIGTERM are passed on to the
    processes; if they end by one, so does this process, with code 128 + its number.

    Args:
        main: what to run; picklable.
        num_processes: processes on this machine; one per GPU, or any number on CPU. 0 is as 1.
        num_machines: machines of the run.
        machine_rank: index of this machine.
        dist_url: where the processes meet, as ``tcp://host:port``.
        on_cuda: one GPU for each process, and NCCL; else gloo.
        args: arguments of ``main``.

    Returns:
        What ``main`` returns if the run is this process alone, else None.

    Raises:
        ValueError: fewer GPUs than processes, an index of no machine, or an address that is none or
            in use.
    """
    if on_cuda and num_processes > torch.cuda.device_count():
        raise ValueError(
            f"--num-gpus is {num_processes}, but this machine has {torch.cuda.device_count()} GPUs."
        )
    if num_machines * num_processes <= 1:
        return main(*args)
    if not 0 <= machine_rank < num_machines:
        raise ValueError(
            f"--machine-rank is {machine_rank}, but the {num_machines} machines of --num-machines "
            "count from 0."
        )
    worker_args = (main, num_processes, num_machines, machine_rank, dist_url, on_cuda, args)
    _check_address(dist_url, is_ours=machine_rank == 0)
    context = mp.spawn(_worker, nprocs=num_processes, args=worker_args, join=False)
    with _signals_passed_on(context.processes) as received:
        try:
            while not context.join():
                pass
        except mp.ProcessExitedException as error:
            if error.exit_code - 128 not in SIGNALS:
                raise
            sys.exit(error.exit_code)
    if received:  # before the processes could save anything
        sys.exit(128 + received[0])
    return None


def _check_address(dist_url: str, *, is_ours: bool) -> None:
    """
    Args:
        dist_url: of a port where the processes meet, or of a file.
        is_ours: whether this machine is the one to listen there.

    Raises:
        ValueError: it is no address, or nothing can listen there.
    """
    url = urlparse(dist_url)
    if url.scheme == "file":
        return
    with socket.socket() as free, socket.socket() as probe:
        free.bind(("127.0.0.1", 0))
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if url.scheme != "tcp" or not url.hostname or not url.port:
                raise ValueError("it is not of the form tcp://host:port")
            if is_ours:
                probe.bind(("", url.port))  # as PyTorch does, whatever the host is called
        except (OSError, ValueError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(
                f"the processes can't meet at {dist_url} ({reason}); name a free port, such as "
                f"--dist-url tcp://127.0.0.1:{free.getsockname()[1]}."
            ) from None


@contextlib.contextmanager
def _signals_passed_on(processes: Sequence[BaseProcess]) -> Iterator[list[int]]:
    """Send what this process is asked to do to others; gives the list of signals so far."""
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)  # type: ignore[arg-type]  # it runs

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _worker(
    local_rank: int,
    main: Callable[..., Any],
    num_processes: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    on_cuda: bool,
    args: tuple,
) -> None:
    if on_cuda:
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(torch.get_num_threads() // num_processes, 1))
    dist.init_process_group(
        backend="nccl" if on_cuda else "gloo",
        init_method=dist_url,
        world_size=num_machines * num_processes,
        rank=machine_rank * num_processes + local_rank,
        timeout=_TIMEOUT,
    )
    _create_local_process_group(num_processes, num_machines, machine_rank)
    comm.synchronize()
    try:
        main(*args)
    except RuntimeError as error:
        if lost_another_process(error):
            # The launcher tells the error of the process that it sees fail first.
            time.sleep(_GRACE)
        raise
    finally:
        dist.destroy_process_group()


def _create_local_process_group(num_processes: int, num_machines: int, machine_rank: int) -> None:
    """Tell Detectron2 which processes share a machine."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(num_processes)
        return
    for machine in range(num_machines):
        first = machine * num_processes
        group = dist.new_group(list(range(first, first + num_processes)))
        if machine == machine_rank:
            comm._LOCAL_PROCESS_GROUP = group
