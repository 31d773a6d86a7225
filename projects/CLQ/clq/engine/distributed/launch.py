"""Launch the processes of a run, or join those of torchrun or srun."""

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any
from urllib.parse import urlparse

import torch
import torch.multiprocessing as mp

from ..user_errors import defer_peer_errors
from .cluster_env import RankInfo
from .process_group import process_group

# They end a run after its step: Ctrl-C, and what a cluster sends before it kills.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_SIGNAL_SECONDS = 0.5


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
    """Call ``main(*args)`` in every process of a run; to be called on each of its nodes.

    Detectron2's ``launch`` assumes CUDA. SIGINT and SIGTERM are forwarded to the processes; if
    one terminates them, this process exits with 128 + its number.

    Args:
        main: picklable function to run.
        num_processes: processes on this node: one per GPU, or any number on CPU.
        num_machines: number of nodes.
        machine_rank: index of this node.
        dist_url: rendezvous address, ``tcp://host:port``.
        on_cuda: use one GPU per process and NCCL, instead of gloo.
        args: arguments of ``main``.

    Returns:
        The result of ``main`` in a run of one process, else None.

    Raises:
        ValueError: there are fewer GPUs than processes, the node index is out of range, or the
            address is invalid or in use.
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
    rank, world_size = machine_rank * num_processes, num_machines * num_processes
    first = RankInfo("--num-gpus", rank, world_size, local_rank=0, node=machine_rank, url=dist_url)
    worker_args = (main, num_processes, first, on_cuda, args)
    _check_address(dist_url, is_ours=machine_rank == 0)
    context = mp.spawn(_worker, nprocs=num_processes, args=worker_args, join=False)
    with _forward_signals(context.processes) as received:
        try:
            while not context.join():
                pass
        except mp.ProcessExitedException as error:
            if not received and error.exit_code - 128 not in SIGNALS:
                raise
            sys.exit(128 + received[0] if received else error.exit_code)
    if received:  # before the processes could handle it
        sys.exit(128 + received[0])
    return None


def run_in_process_group(
    main: Callable[..., Any], info: RankInfo, *, on_cuda: bool, args: tuple = ()
) -> Any:
    """Call ``main(*args)`` in this process, which torchrun or srun has started.

    The number of threads is left to ``OMP_NUM_THREADS``, which torchrun sets. Arguments and
    result are those of :func:`launch`.

    Raises:
        ValueError: there is no GPU for this process, or the address is invalid or in use.
    """
    if info.world_size == 1:
        return main(*args)
    if info.launcher == "srun":
        _check_address(info.url, is_ours=info.rank == 0, setting="MASTER_PORT=")
    with process_group(info, _choose_gpu(info) if on_cuda else None):
        main(*args)
    return None


def _choose_gpu(info: RankInfo) -> int:
    """Choose the GPU of this process, unless the node has fewer GPUs than processes."""
    count = torch.cuda.device_count()
    if info.launcher == "srun":  # may give each task its own GPUs, numbered from 0
        return info.local_rank % count
    if info.local_rank >= count:
        raise ValueError(
            f"LOCAL_RANK is {info.local_rank}, but this machine has {count} GPUs; start at most "
            "one process for each."
        )
    return info.local_rank


def _check_address(
    url: str, *, is_ours: bool, setting: str = "--dist-url tcp://127.0.0.1:"
) -> None:
    """Check that the processes can meet at an address of a port or a file.

    This node is to listen there if ``is_ours``; ``setting`` names another port, up to its number.
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
                probe.bind(("", parts.port))  # on all interfaces, as PyTorch does
        except (OSError, ValueError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(
                f"the processes can't meet at {url} ({reason}); name a free port, such as "
                f"{setting}{free.getsockname()[1]}."
            ) from None


def is_second_signal(times: list[float]) -> bool:
    """Note the time of a signal; tell whether it is a new one, after which a run ends at once.

    Ctrl-C reaches a process of several twice: from the terminal and from the launcher.
    """
    times.append(time.monotonic())
    return times[-1] - times[0] > _SAME_SIGNAL_SECONDS


@contextlib.contextmanager
def _forward_signals(processes: Sequence[BaseProcess]) -> Iterator[list[int]]:
    """Forward SIGINT and SIGTERM to other processes; yields the list of those received."""
    received: list[int] = []
    times: list[float] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if is_second_signal(times):
            number = signal.SIGKILL
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)  # type: ignore[arg-type]  # it runs

    handlers = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _worker(
    local_rank: int,
    main: Callable[..., Any],
    num_processes: int,
    first: RankInfo,
    on_cuda: bool,
    args: tuple,
) -> None:
    """Run one of the processes of a node, where ``first`` is that of local rank 0."""
    # The workers of its data loaders start as by torchrun: forked, where a platform does so.
    mp.set_start_method(None, force=True)
    if not on_cuda:
        torch.set_num_threads(max(torch.get_num_threads() // num_processes, 1))
    info = dataclasses.replace(first, rank=first.rank + local_rank, local_rank=local_rank)
    # Where several processes fail, the launcher reports the first one's error.
    with defer_peer_errors(is_first=True), process_group(info, local_rank if on_cuda else None):
        main(*args)
