"""The results as a table, and on disk."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from clq.utils.atomic_write import write_atomically

_HEADERS = ("row", "ours", "peer", "unit", "ratio", "of a round", "at most", "ok", "rounds", "load")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in markdown."""
    return tabulate(
        [_cells(row) for row in rows], _HEADERS, tablefmt="github", disable_numparse=True
    )


def write_report(
    path: Path,
    environment: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    method: str,
    to_table: Callable[[Sequence[Mapping[str, Any]]], str] = table,
) -> None:
    """Write the json and, beside it, the table with environment and method in markdown.

    Args:
        path: of the json.
        environment: what the rows were measured on.
        rows: the results.
        method: what was timed and how, in markdown.
        to_table: gives the rows in markdown.
    """
    content = {"environment": environment, "rows": rows}
    lines = ["# Speed", "", *(f"- {name}: {value}" for name, value in environment.items())]
    text = "\n".join([*lines, "", to_table(rows), "", method.strip(), ""])
    data = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, data.encode())
    write_atomically(path.with_suffix(".md"), text.encode())


def _cells(row: Mapping[str, Any]) -> list[str]:
    spread = row["spread"] and "–".join(map(number, row["spread"]))
    verdict = {True: "yes", False: "NO", None: ""}[row["ok"]]
    disturbed = f"{row['disturbed']} disturbed" if row["disturbed"] else ""
    values = (number(row[name]) for name in ("ours", "peer"))
    return [
        *(row["name"], *values, row["unit"], number(row["ratio"]), spread or ""),
        *(number(row["bar"]), verdict, str(row["rounds"]), disturbed),
    ]


def number(value: float | str | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None or isinstance(value, str):
        return value or ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{float(f'{value:.3g}'):.6f}".rstrip("0").rstrip(".")
