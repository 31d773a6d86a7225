"""Going on by itself where torchrun starts all processes of a training anew."""

from pathlib import Path

from detectron2.utils import comm

from ...utils.atomic_write import write_atomically
from .cluster_env import Place

__all__ = ["is_restarted", "note_launch"]

_FILE = ".torchrun"


def note_launch(place: Place | None, folder: Path) -> None:
    """Write down which torchrun has begun a training; all processes must call it.

    Args:
        place: of this process.
        folder: of the training.
    """
    if place is None or not place.launch_id:
        return
    launches = comm.all_gather(place.launch_id)
    if comm.is_main_process():
        write_atomically(folder / _FILE, "\n".join(sorted(set(launches))).encode())


def is_restarted(place: Place | None, folder: Path) -> bool:
    """Tell whether the torchrun that started this process has begun the training before.

    A restart is not enough to tell: torchrun also restarts processes that were refused since the
    folder holds another training. All processes must call it, and get the same answer.

    Args:
        place: of this process.
        folder: of the training.
    """
    if place is None or not place.launch_id:
        return False
    file = folder / _FILE
    noted = file.read_text().splitlines() if file.is_file() else []
    # The main process knows the folder; of the machines, some may be new since.
    launches, notes = zip(*comm.all_gather((place.launch_id, noted)))
    return not set(launches).isdisjoint(notes[0])
