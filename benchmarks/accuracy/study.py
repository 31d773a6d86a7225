"""The loop over the cells: run those without a row, or run those with a row again."""

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cells import Cell, DataSet
from .rows import add_result, cell_of, read_rows
from .run import commit, run_apart, run_cell


def run_missing(
    cells: Sequence[Cell],
    data_sets: Mapping[str, DataSet],
    *,
    results: Path,
    output: Path,
    opts: Sequence[str] = (),
) -> int:
    """Run the cells that have no row yet, and add a row for each that finishes.

    Args:
        cells: in the order to run them.
        data_sets: by name.
        results: the csv.
        output: folder of the runs' own folders.
        opts: further configuration keys and values, the same for every cell.

    Returns:
        The number of cells that failed; each is told in one line.
    """
    done = {cell_of(row) for row in read_rows(results)}
    missing = [cell for cell in cells if cell not in done]
    print(f"{len(missing)} cells to run, {len(cells) - len(missing)} have a row.", flush=True)
    failed = 0
    for i, cell in enumerate(missing, start=1):
        row = _try(cell, data_sets[cell.data], output / cell.folder, opts, f"{i}/{len(missing)}")
        failed += row is None
        if row is not None:
            add_result(results, row)
    return failed


def run_again(
    cells: Sequence[Cell],
    data_sets: Mapping[str, DataSet],
    *,
    results: Path,
    output: Path,
    opts: Sequence[str] = (),
) -> int:
    """Run cells that have a row once more, and print old beside new; the csv stays as it is.

    Args:
        cells: those without a row are left out.
        data_sets: by name.
        results: the csv.
        output: folder of the runs; they go to its folder ``again``.
        opts: further configuration keys and values, the same for every cell.

    Returns:
        The number of cells that failed, or whose AP lies outside the spread of their seeds:
        further from their mean than three sample standard deviations.
    """
    rows = {cell_of(row): row for row in read_rows(results)}
    without = [str(cell) for cell in cells if cell not in rows]
    cells = [cell for cell in cells if cell in rows]
    print(f"{len(cells)} cells have a row and run again.", flush=True)
    if without:
        print(f"Left out, since they have none: {', '.join(without)}.", flush=True)
    failed = 0
    for i, cell in enumerate(cells, start=1):
        folder = output / "again" / cell.folder
        row = _try(cell, data_sets[cell.data], folder, opts, f"{i}/{len(cells)}")
        failed += row is None
        if row is not None:
            aps = [float(old["AP"]) for other, old in rows.items() if other[:2] == cell[:2]]
            within = is_within_spread(row["AP"], aps)
            failed += not within
            print(
                f"  AP {row['AP']:.2f} now, {float(rows[cell]['AP']):.2f} in {results}: "
                f"{'within' if within else 'OUTSIDE'} the spread of its seeds, "
                f"{min(aps):.2f} to {max(aps):.2f}",
                flush=True,
            )
    return failed


def is_within_spread(value: float, seeds: Sequence[float]) -> bool:
    """Whether a value lies within three sample standard deviations of the seeds' mean.

    A single seed has no spread; then the value must be the same to a hundredth.
    """
    spread = statistics.stdev(seeds) if len(seeds) > 1 else 0.0
    return abs(value - statistics.mean(seeds)) <= 3 * spread + 0.01


def _try(
    cell: Cell, data: DataSet, folder: Path, opts: Sequence[str], place: str
) -> dict[str, Any] | None:
    """Run a cell in a fresh folder and process; its row, or None after a line on what failed."""
    shutil.rmtree(folder, ignore_errors=True)
    at = commit()
    try:
        row = {**run_apart(run_cell, cell, data, folder, opts), "commit": at}
    except Exception as error:  # of any kind: the other cells don't depend on this one
        sentence = " ".join(str(error).split()) or type(error).__name__
        print(f"[{place}] {cell} failed: {sentence}", flush=True)
        return None
    print(
        f"[{place}] {cell}: AP {row['AP']:.2f}, AP50 {row['AP50']:.2f}, {row['seconds']:.0f} s",
        flush=True,
    )
    return row
