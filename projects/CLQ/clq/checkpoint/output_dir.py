"""The checkpoints of a training in its output folder, and which of them to go on from."""

import re
from pathlib import Path
from typing import NamedTuple

from .seal import DamagedFile, check_intact

__all__ = [
    "LastCheckpoint",
    "checkpoints_of",
    "find_last",
    "remove_checkpoints",
    "remove_leftovers",
]

POINTER = "last_checkpoint"  # the file that names the newest checkpoint
_FINAL = "model_final.pth"
_NUMBERED = re.compile(r"model_\d+\.pth")


class LastCheckpoint(NamedTuple):
    """Where a training goes on, and what is wrong with the newer checkpoints."""

    path: Path
    damage: list[str]


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints of a training, the newest first.

    Args:
        folder: of the training; need not exist.
    """
    found = sorted(p for p in folder.glob("model_*.pth") if _NUMBERED.fullmatch(p.name))[::-1]
    found += [path for path in (folder / _FINAL,) if path.is_file()]
    pointer = folder / POINTER
    pointed = folder / pointer.read_text(errors="replace").strip() if pointer.is_file() else None
    return sorted(found, key=lambda path: path != pointed)  # stable: the order else stays


def find_last(folder: Path) -> LastCheckpoint | None:
    """The newest checkpoint whose bytes are those that were written; None if there is none at all.

    Raises:
        ValueError: there are checkpoints, but all of them are damaged.
    """
    damage = []
    for path in checkpoints_of(folder):
        try:
            check_intact(path, must_be_sealed=True)
        except DamagedFile as error:
            damage.append(str(error))
        else:
            return LastCheckpoint(path, damage)
    if damage:
        raise ValueError(
            f"{folder} has no checkpoint to go on from ({damage[0].rstrip('.')}); start again in "
            "another OUTPUT_DIR."
        )
    return None


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a training that is to be run again."""
    for path in (folder / POINTER, *checkpoints_of(folder)):
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left of checkpoints that it had not finished writing."""
    for path in folder.glob(".model_*"):
        path.unlink(missing_ok=True)
