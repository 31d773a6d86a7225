"""The results on disk: one csv row for each cell that finished, and beside it what it detected."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import read_rows, write_rows

from .cells import Cell

FIELDS = (
    *("data", "member", "seed", "hash", "keys"),
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "class_AP"),
    *("AP_by_score", "AP_by_true_IoU"),
    *("iterations", "seconds", "seconds_per_iteration", "cpu_seconds"),
    *("machine", "torch", "commit", "date"),
)


def add_result(path: Path, row: Mapping[str, Any], matches: Path) -> None:
    """Append the row of a finished cell, and keep its matches.

    Args:
        path: the csv.
        row: of ``run_cell``.
        matches: file that the cell left.

    Raises:
        ValueError: the cell has a row already.
    """
    rows = read_rows(path)
    if identity(row) in map(identity, rows):
        raise ValueError(f"{path} already has a row of {cell_of(row)} with these settings.")
    kept = matches_file(path, row)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(matches, kept)
    write_rows(path, FIELDS, [*rows, row])


def matches_file(path: Path, row: Mapping[str, Any]) -> Path:
    """Path of the matches of a row of the csv ``path``."""
    return path.with_suffix("") / row["hash"] / f"{cell_of(row).folder}.npz"


def cell_of(row: Mapping[str, Any]) -> Cell:
    return Cell(row["data"], row["member"], int(row["seed"]))


def identity(row: Mapping[str, Any]) -> tuple[Cell, str]:
    """The cell, and the hash of the settings and the data that it ran with."""
    return cell_of(row), row["hash"]
