"""Automatic resume after a torchrun restart."""

from pathlib import Path

from detectron2.utils import comm

from ...utils.atomic_write import write_atomically
from .cluster_env import RankInfo

_FILE = ".torchrun"


def record_launch_id(info: RankInfo | None, output_dir: Path) -> None:
    """Record the torchrun launch ids in the output directory. Collective call."""
    if info is None or not info.launch_id:
        return
    launches = comm.all_gather(info.launch_id)
    if comm.is_main_process():
        write_atomically(output_dir / _FILE, "\n".join(sorted(set(launches))).encode())


def is_elastic_restart(info: RankInfo | None, output_dir: Path) -> bool:
    """Tell whether the torchrun that started this process also began the training.

    A restart alone does not tell: torchrun also restarts a command that was rejected because the
    output directory holds another training. Collective call, with the same result on all ranks.
    """
    if info is None or not info.launch_id:
        return False
    file = output_dir / _FILE
    recorded = file.read_text().splitlines() if file.is_file() else []
    # Rank 0 reads the file for all. A node may be new, so one known launch is enough.
    launches, records = zip(*comm.all_gather((info.launch_id, recorded)))
    return not set(launches).isdisjoint(records[0])
