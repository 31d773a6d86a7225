"""Checkpoints of a training run in its output directory."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from ..utils.hardware import is_out_of_memory
from .read_file import DAMAGED, CorruptedFileError, read_file

POINTER = "last_checkpoint"  # the file that names the newest checkpoint
_FINAL = "model_final.pth"
_DETECTORS = ("model_final.safetensors", "model_best.safetensors")
_NUMBERED = re.compile(r"model_\d+\.pth")


class LastCheckpoint(NamedTuple):
    """The checkpoint to resume from.

    Attributes:
        path: of the file.
        content: of the file, as :func:`read_file` gives it.
        damage: what is wrong with those before it in the list.
    """

    path: Path
    content: dict[str, Any]
    damage: list[str]


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a training run, the one to resume from first.

    Args:
        folder: of the training run; need not exist.
    """
    found = sorted(p for p in folder.glob("model_*.pth") if _NUMBERED.fullmatch(p.name))[::-1]
    found += [path for path in (folder / _FINAL,) if path.is_file()]
    pointer = folder / POINTER
    pointed = folder / pointer.read_text(errors="replace").strip() if pointer.is_file() else None
    return sorted(found, key=lambda path: path != pointed)  # stable: the order else stays


def find_last(folder: Path, *, trusted: bool = False) -> LastCheckpoint | None:
    """Find the newest intact checkpoint; None if there is none at all.

    A checksum does not cover all of an archive, so that only reading tells whether it is intact.

    Args:
        folder: of the training run.
        trusted: let a pickle run code.

    Raises:
        ValueError: there are checkpoints, but all of them are damaged, or the memory does not
            suffice for the newest.
    """
    damage: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return LastCheckpoint(path, read_file(path, trusted=trusted), damage)
        except CorruptedFileError as error:
            if error.__cause__ and is_out_of_memory(error.__cause__):
                raise ValueError(
                    f"the memory does not suffice for {path}, the newest checkpoint; free some."
                ) from error
            damage.append(DAMAGED.format(path))
    if damage:
        raise ValueError(
            f"{folder} has no checkpoint to go on from ({damage[0].rstrip('.')}); start again in "
            "another OUTPUT_DIR."
        )
    return None


def list_detectors(folder: Path) -> list[Path]:
    """List what a training run writes for inference.

    Args:
        folder: of the training run; need not exist.
    """
    return [path for path in map(folder.joinpath, _DETECTORS) if path.exists()]


def remove_checkpoints(folder: Path) -> None:
    """Delete checkpoints and detectors of a training run that is to start again."""
    for path in (folder / POINTER, *list_checkpoints(folder), *list_detectors(folder)):
        path.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove partially written checkpoints, which a killed process leaves."""
    for path in folder.glob(".model_*"):
        path.unlink(missing_ok=True)
