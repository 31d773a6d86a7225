"""Start the processes of a run, or join those that there are: NCCL on CUDA, gloo elsewhere."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any
from urllib.parse import urlparse

import torch
import torch.multiprocessing as mp

from ..hooks.preemption import SIGNALS
from ..user_errors import speak_in_turn
from .cluster_env import Place
from .process_group import process_group


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
    num_processes = max(num_processes, 1)
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


def join(main: Callable[..., Any], place: Place, *, on_cuda: bool, args: tuple = ()) -> Any:
    """Call ``main(*args)`` in this process, one of those that torchrun or srun started.

    The number of threads is left to ``OMP_NUM_THREADS``, which torchrun sets.

    Args:
        main: what to run.
        place: of this process.
        on_cuda: one GPU for each process, and NCCL; else gloo.
        args: arguments of ``main``.

    Returns:
        What ``main`` returns if the run is this process alone, else None.

    Raises:
        ValueError: there is no GPU for this process, or the address is none or in use.
    """
    if place.world_size == 1:
        return main(*args)
    if place.launcher == "srun":
        _check_address(place.url, is_ours=place.rank == 0, setting="MASTER_PORT=")
    with process_group(place, _gpu_of(place) if on_cuda else None):
        main(*args)
    return None


def _gpu_of(place: Place) -> int:
    """
    Raises:
        ValueError: the machine has fewer GPUs than processes.
    """
    count = torch.cuda.device_count()
    if place.launcher == "srun":  # may show each task GPUs of its own, which count from 0
        return place.local_rank % count
    if place.local_rank >= count:
        raise ValueError(
            f"LOCAL_RANK is {place.local_rank}, but this machine has {count} GPUs; start at most "
            "one process for each."
        )
    return place.local_rank


def _check_address(
    url: str, *, is_ours: bool, setting: str = "--dist-url tcp://127.0.0.1:"
) -> None:
    """
    Args:
        url: of a port where the processes meet, or of a file.
        is_ours: whether this machine is the one to listen there.
        setting: what a user writes before another port.

    Raises:
        ValueError: it is no address, or nothing can listen there.
    """
    parts = urlparse(url)
    if parts.scheme == "file":
        return
    with socket.socket() as free, socket.socket() as probe:
        free.bind(("127.0.0.1", 0))
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if parts.scheme != "tcp" or not parts.hostname or not parts.port:
                raise ValueError("it is not of the form tcp://host:port")
            if is_ours:
                probe.bind(("", parts.port))  # as PyTorch does, whatever the host is called
        except (OSError, ValueError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(
                f"the processes can't meet at {url} ({reason}); name a free port, such as "
                f"{setting}{free.getsockname()[1]}."
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
    if not on_cuda:
        torch.set_num_threads(max(torch.get_num_threads() // num_processes, 1))
    place = Place(
        launcher="--num-gpus",
        rank=machine_rank * num_processes + local_rank,
        world_size=num_machines * num_processes,
        local_rank=local_rank,
        machine=machine_rank,
        url=dist_url,
    )
    # Of several processes that fail, it is the launcher that tells the first one's error.
    with speak_in_turn(is_first=True), process_group(place, local_rank if on_cuda else None):
        main(*args)
