"""Averages over all training processes."""

import torch.distributed
from detectron2.utils import comm
from torch import Tensor


def mean_over_processes(values: Tensor) -> Tensor:
    """Average a tensor over all processes by one all-reduce.

    Every process must call it once a step, whatever its data.

    Args:
        values: any shape, the same on every process; detached by this call.

    Returns:
        The mean over processes; the values themselves when there is only one process.
    """
    values = values.detach()
    world_size = comm.get_world_size()
    if world_size == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / world_size
