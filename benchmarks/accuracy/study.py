"""The loop over the cells: run those without a row, or run those with a row again."""

import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import read_rows, run_apart

from .cells import Cell
from .data_sets import DataSet
from .rows import add_result, identity
from .run import MATCHES, cell_hash, run_cell


@dataclass(frozen=True)
class Study:
    """Source of the cells and target of their results.

    Attributes:
        data_sets: by name.
        results: the csv.
        output: folder of the runs' own folders.
        opts: further configuration keys and values, the same for every cell.
        parallel: cells that run side by side, each in a process of its own.
        threads: of each.
    """

    data_sets: Mapping[str, DataSet]
    results: Path
    output: Path
    opts: Sequence[str] = ()
    parallel: int = 1
    threads: int = 1

    def hashes(self, cells: Sequence[Cell]) -> dict[str, str]:
        """The hash of settings and data of each data set, which all its cells share."""
        first = {cell.data: cell for cell in reversed(cells)}
        return {
            name: run_apart(cell_hash, cell, self.data_sets[name], self.opts)
            for name, cell in first.items()
        }

    def run_missing(self, cells: Sequence[Cell]) -> int:
        """Run the cells that have no row yet, and add a row for each that finishes.

        Args:
            cells: in the order to run them.

        Returns:
            The number of cells that failed; each is told in one line.
        """
        hashes = self.hashes(cells)
        done = {identity(row) for row in read_rows(self.results)}
        missing = [cell for cell in cells if (cell, hashes[cell.data]) not in done]
        print(f"{len(missing)} cells to run, {len(cells) - len(missing)} have a row.", flush=True)
        failed = 0
        for cell, row in self._run(missing, self.output):
            failed += row is None
            if row is not None:
                add_result(self.results, row, self.output / cell.folder / MATCHES)
        return failed

    def run_again(self, cells: Sequence[Cell]) -> int:
        """Run cells that have a row once more, and print old beside new; the csv stays as it is.

        Args:
            cells: those without a row are left out. The runs go to the output folder's ``again``.

        Returns:
            The number of cells that failed, or whose AP lies outside the spread of their seeds.
        """
        hashes = self.hashes(cells)
        rows = {identity(row): row for row in read_rows(self.results)}
        without = [str(cell) for cell in cells if (cell, hashes[cell.data]) not in rows]
        cells = [cell for cell in cells if (cell, hashes[cell.data]) in rows]
        print(f"{len(cells)} cells have a row and run again.", flush=True)
        if without:
            print(f"Left out, since they have none: {', '.join(without)}.", flush=True)
        failed = 0
        for cell, row in self._run(cells, self.output / "again"):
            failed += row is None
            if row is not None:
                shared = hashes[cell.data]
                aps = [
                    float(old["AP"])
                    for (other, hash_), old in rows.items()
                    if other[:2] == cell[:2] and hash_ == shared
                ]
                within = is_within_spread(row["AP"], aps)
                failed += not within
                print(
                    f"  AP {row['AP']:.2f} now, {float(rows[cell, shared]['AP']):.2f} in "
                    f"{self.results}: {'within' if within else 'OUTSIDE'} the spread of its seeds, "
                    f"{min(aps):.2f} to {max(aps):.2f}",
                    flush=True,
                )
        return failed

    def _run(
        self, cells: Sequence[Cell], output: Path
    ) -> Iterator[tuple[Cell, dict[str, Any] | None]]:
        """Each cell as it finishes, with its row, or None after a line on what failed."""
        with ThreadPoolExecutor(self.parallel) as pool:
            running = {pool.submit(self._row, cell, output): cell for cell in cells}
            try:
                for i, future in enumerate(as_completed(running), start=1):
                    cell, place = running[future], f"[{i}/{len(cells)}]"
                    try:
                        row = future.result()
                    except Exception as error:  # of any kind: the others don't depend on this one
                        sentence = " ".join(str(error).split()) or type(error).__name__
                        print(f"{place} {cell} failed: {sentence}", flush=True)
                        yield cell, None
                        continue
                    figures = f"AP {row['AP']:.2f}, AP75 {row['AP75']:.2f}, {row['seconds']:.0f} s"
                    print(f"{place} {cell}: {figures}", flush=True)
                    yield cell, row
            finally:
                pool.shutdown(cancel_futures=True)

    def _row(self, cell: Cell, output: Path) -> dict[str, Any]:
        shutil.rmtree(output / cell.folder, ignore_errors=True)
        arguments = (cell, self.data_sets[cell.data], self.opts, output / cell.folder)
        return run_apart(run_cell, *arguments, threads=self.threads)


def is_within_spread(value: float, seeds: Sequence[float]) -> bool:
    """Tell whether a value lies within three sample standard deviations of the seeds' mean.

    A single seed has no spread; then the value must be the same to a hundredth.
    """
    spread = statistics.stdev(seeds) if len(seeds) > 1 else 0.0
    return abs(value - statistics.mean(seeds)) <= 3 * spread + 0.01
