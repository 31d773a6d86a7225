"""Start the processes of a run: NCCL where there is CUDA, gloo where there is none."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

_TIMEOUT = timedelta(minutes=30)


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

    Detectron2's launcher of this name assumes CUDA.

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
        ValueError: fewer GPUs than processes.
    """
    if on_cuda and num_processes > torch.cuda.device_count():
        raise ValueError(
            f"--num-gpus is {num_processes}, but this machine has {torch.cuda.device_count()} GPUs."
        )
    if num_machines * num_processes <= 1:
        return main(*args)
    worker_args = (main, num_processes, num_machines, machine_rank, dist_url, on_cuda, args)
    mp.spawn(_worker, nprocs=num_processes, args=worker_args)
    return None


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
