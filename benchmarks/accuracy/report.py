"""The report: a table for each data set, the differences, and what was not run."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from clq.files import write_atomically

from .cells import ABLATIONS, BASELINE, FAMILY, MEMBERS
from .figure import draw_figure
from .rows import read_rows
from .summary import (
    Row,
    Spread,
    baselines,
    data_names,
    not_run,
    rows_of,
    spread,
    update_differences,
)

_METRICS = ("AP", "AP50", "AP75")
_EMPTY = "not run"
_INTRODUCTION = """# The study on real data

Written by `python -m benchmarks.accuracy --report` from [{results}]({results}) and
[{differences}]({differences}). What is measured and how to repeat it:
[docs/accuracy.md](../../docs/accuracy.md).

AP in percent, mean ± sample standard deviation over the seeds. A difference is the mean over the
seeds; in square brackets stands its 95 % interval over images (paired bootstrap), after ± the
sample standard deviation of the single seeds' differences. The trees are tiles of one
photograph, so that their interval is a lower bound. The settings were chosen on these images too,
by training CLQ more than the others. Rank correlation: Spearman's, between score and true IoU of
the detections. Seconds: median of a training iteration, on a machine shared with other work.
"""


def write_report(results: Path, output: Path, figure: Path) -> list[Path]:
    """Write the report, the differences and the figure of the results.

    Args:
        results: csv of the finished cells; report and differences go beside it.
        output: folder of the runs, whose detections give the intervals.
        figure: picture to write.

    Returns:
        The files written; none where there are no results.
    """
    rows = read_rows(results)
    if not rows:
        print(f"{results} has no row yet, so there is nothing to report.")
        return []
    differences_file = results.with_name(f"{results.stem}_differences.csv")
    differences = update_differences(differences_file, rows, output)
    report = results.with_suffix(".md")
    links = {"results": results.name, "differences": differences_file.name}
    sections = [_INTRODUCTION.format(**links)]
    sections += [_section(data, rows, differences) for data in data_names(rows)]
    sections += [_missing(rows), _machines(rows)]
    write_atomically(report, "\n".join(sections).encode())
    draw_figure(rows, differences, figure)
    return [report, differences_file, figure]


def _section(data: str, rows: Sequence[Row], differences: Sequence[Row]) -> str:
    """One data set: the family, the ablations if one of them ran, and the AP of each class."""
    tables = [f"## {data}\n", _table(data, list(FAMILY), rows, differences, [BASELINE])]
    ablations = [member for member in ABLATIONS if rows_of(rows, data, member)]
    if ablations:
        members = ["clq", "atss_clq", *ABLATIONS]
        tables += ["\nAblations, with the difference to what each changes too:\n"]
        tables += [_table(data, members, rows, differences, [BASELINE, "the member it changes"])]
    return "\n".join([*tables, _class_table(data, rows)])


def _table(
    data: str,
    members: Sequence[str],
    rows: Sequence[Row],
    differences: Sequence[Row],
    against: Sequence[str],
) -> str:
    by_pair = {
        (row["member"], row["baseline"], row["metric"]): row
        for row in differences
        if row["data"] == data
    }
    headers = ["member", "seeds", *_METRICS]
    headers += [f"AP minus {name}" for name in against]
    headers += ["rank correlation", "seconds"]
    lines = []
    for member in members:
        found = list(rows_of(rows, data, member).values())
        line = [member, len(found), *(_cell(spread(found, metric), 1) for metric in _METRICS)]
        parents = baselines(member)
        for i in range(len(against)):
            pair = by_pair.get((member, parents[i], "AP")) if i < len(parents) else None
            line.append(_difference(pair) if pair else "")
        line.append(_cell(spread(found, "rank_correlation"), 2) if found else _EMPTY)
        steps = spread(found, "seconds_per_iteration")
        lines.append([*line, f"{statistics.median(steps.values):.2f}" if steps else _EMPTY])
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True) + "\n"


def _cell(value: Spread | None, digits: int) -> str:
    if value is None:
        return _EMPTY
    std = "" if value.std is None else f" ± {value.std:.{digits}f}"
    return f"{value.mean:.{digits}f}{std}"


def _difference(row: Row) -> str:
    value, low, high = (float(row[field]) for field in ("difference", "low", "high"))
    std = f" ± {float(row['spread']):.1f}" if row["spread"] else ""
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]{std}"


def _class_table(data: str, rows: Sequence[Row]) -> str:
    """Mean AP of each class over the seeds; nothing for a single class or without rows."""
    lines, names = [], []
    for member in MEMBERS:
        classes: list[Mapping[str, float]] = [
            json.loads(row["class_AP"]) for row in rows_of(rows, data, member).values()
        ]
        if classes:
            names = list(classes[0])
            means = [statistics.mean(each[name] for each in classes) for name in names]
            lines.append([member, *(f"{mean:.1f}" for mean in means)])
    if len(names) < 2:
        return ""
    headers = ["member", *(f"AP {name}" for name in names)]
    return "\n" + tabulate(lines, headers, tablefmt="github", disable_numparse=True) + "\n"


def _missing(rows: Sequence[Row]) -> str:
    cells = not_run(rows)
    listed = "".join(f"- {cell}\n" for cell in cells) or "None: every cell of the study ran.\n"
    return f"## Not run\n\n{listed}"


def _machines(rows: Sequence[Row]) -> str:
    """Where and from which code the rows come, and the time they took."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        where = tuple(row[field] for field in ("machine", "torch", "commit", "date"))
        groups.setdefault(where, []).append(float(row["seconds"]))
    lines = [
        [*where, len(seconds), f"{sum(seconds) / 60:.0f}"] for where, seconds in groups.items()
    ]
    headers = ["machine", "torch", "commit", "date", "cells", "minutes"]
    table = tabulate(lines, headers, tablefmt="github", disable_numparse=True)
    return f"## Made by\n\n{table}\n"
