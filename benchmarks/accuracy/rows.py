"""The results on disk: one csv row for each cell that finished."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clq.files import write_atomically

from .cells import Cell

CELL_FIELDS = ("data", "member", "seed")
FIELDS = (
    *CELL_FIELDS,
    *("AP", "AP50", "AP75", "APs", "APm", "APl", "class_AP", "rank_correlation"),
    *("iterations", "seconds", "seconds_per_iteration", "cpu_seconds"),
    *("machine", "torch", "commit", "date"),
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a csv as text; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, fields: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a csv in one step: a reader sees the old file or the new one, never a half."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def add_result(path: Path, row: Mapping[str, Any]) -> None:
    """Append the row of a finished cell.

    Raises:
        ValueError: the cell has a row already.
    """
    rows = read_rows(path)
    if cell_of(row) in {cell_of(other) for other in rows}:
        raise ValueError(f"{path} already has a row of {cell_of(row)}.")
    write_rows(path, FIELDS, [*rows, row])


def cell_of(row: Mapping[str, Any]) -> Cell:
    return Cell(row["data"], row["member"], int(row["seed"]))
