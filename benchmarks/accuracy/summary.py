"""From rows to what the report shows: means, spreads, differences, and what was not run."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .cells import ABLATIONS, BASELINE, BLOOD_CELLS, MEMBERS, TREES, Cell, study_cells
from .differences import METRICS, bootstrap_differences
from .rows import cell_of, read_rows, write_rows
from .run import read_detections

DIFFERENCE_FIELDS = (
    *("data", "member", "baseline", "seeds", "metric"),
    *("difference", "low", "high", "spread", "by_seed"),
)
Row = Mapping[str, str]


class Spread(NamedTuple):
    """Mean over seeds, and their sample standard deviation (None for a single seed)."""

    mean: float
    std: float | None
    values: tuple[float, ...]


def spread(rows: Sequence[Row], field: str) -> Spread | None:
    """Mean and spread of a column; None where no row has a value."""
    values = tuple(float(row[field]) for row in rows if row[field] not in ("", "nan"))
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.mean(values), std, values)


def data_names(rows: Sequence[Row]) -> list[str]:
    """The data sets of the study, and others that have rows, in the order of the report."""
    return list(dict.fromkeys((BLOOD_CELLS, TREES, *(row["data"] for row in rows))))


def rows_of(rows: Sequence[Row], data: str, member: str) -> dict[int, Row]:
    """The rows of one member on one data set by seed, in rising order of seeds."""
    chosen = [row for row in rows if (row["data"], row["member"]) == (data, member)]
    return {int(row["seed"]): row for row in sorted(chosen, key=lambda row: int(row["seed"]))}


def not_run(rows: Sequence[Row]) -> list[Cell]:
    """The cells of the study that have no row."""
    done = {cell_of(row) for row in rows}
    return [cell for cell in study_cells(data_names(rows)) if cell not in done]


def baselines(member: str) -> list[str]:
    """What a member is compared with: ATSS, and an ablation also with what it changes."""
    parents = [BASELINE] if member != BASELINE else []
    if member in ABLATIONS:
        parents.append("atss_clq" if member == "atss_clq_align" else "clq")
    return parents


def update_differences(path: Path, rows: Sequence[Row], output: Path) -> list[dict[str, str]]:
    """Compute the differences whose detections are in ``output``, keep the others of the file.

    A difference in the file that belongs to other seeds than the rows' is dropped.

    Args:
        path: the csv of the differences, in percent; rewritten.
        rows: of the results.
        output: folder of the runs' folders.

    Returns:
        The rows of the file.
    """
    known = {tuple(row[field] for field in DIFFERENCE_FIELDS[:5]): row for row in read_rows(path)}
    differences = []
    for data in data_names(rows):
        for member in MEMBERS:
            for baseline in baselines(member):
                pair = [rows_of(rows, data, name) for name in (baseline, member)]
                seeds = sorted(pair[0].keys() & pair[1].keys())
                names = [data, member, baseline, " ".join(map(str, seeds))]
                computed = _compare(data, (baseline, member), seeds, pair, output)
                differences += [
                    computed.get(metric) or known[key]
                    for metric in METRICS
                    if (key := (*names, metric)) in known or metric in computed
                ]
    write_rows(path, DIFFERENCE_FIELDS, differences)
    return [{field: str(row[field]) for field in DIFFERENCE_FIELDS} for row in differences]


def _compare(
    data: str,
    names: tuple[str, str],
    seeds: Sequence[int],
    pair: Sequence[Mapping[int, Row]],
    output: Path,
) -> dict[str, dict[str, Any]]:
    """Rows of differences by metric; empty where detections of a seed are not there.

    Raises:
        ValueError: the detections are not those that the results were computed from.
    """
    folders = [[output / Cell(data, name, seed).folder for seed in seeds] for name in names]
    if not seeds or not all(any(f.glob("inference/*/*.json")) for side in folders for f in side):
        return {}
    runs = [[read_detections(folder) for folder in side] for side in folders]
    truth = runs[0][0][0]
    found = bootstrap_differences(truth, *[[run[1] for run in side] for side in runs])
    computed = {}
    for metric, difference in found.items():
        by_seed = [float(pair[1][s][metric]) - float(pair[0][s][metric]) for s in seeds]
        if abs(statistics.mean(by_seed) - difference.value) > 0.01:
            raise ValueError(
                f"the detections of {names[0]} and {names[1]} in {output} are not those of the "
                f"results: their {metric} differs by {difference.value:.2f}, not "
                f"{statistics.mean(by_seed):.2f}."
            )
        computed[metric] = {
            **dict(zip(DIFFERENCE_FIELDS, (data, names[1], names[0], " ".join(map(str, seeds))))),
            "metric": metric,
            "difference": round(difference.value, 3),
            "low": round(difference.low, 3),
            "high": round(difference.high, 3),
            "spread": round(statistics.stdev(by_seed), 3) if len(seeds) > 1 else "",
            "by_seed": " ".join(f"{value:.3f}" for value in by_seed),
        }
    return computed
