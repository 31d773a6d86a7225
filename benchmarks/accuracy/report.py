"""The report: tables of every group of comparable rows, what was not run, and two figures."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from clq.evaluation.report.matches import IOU_THRESHOLDS
from clq.utils.atomic_write import write_atomically

from .bootstrap import Difference
from .cells import ABLATIONS, AUGMENTED, BASELINE, FAMILY
from .figures import draw_curves, draw_scores
from .summary import ALL, AT_75, Group, Spread, read_groups, spread

_EMPTY = "not run"
_INTRODUCTION = """# The study on real data

Written by `python -m benchmarks.accuracy --report` from [{csv}]({csv}) and the matches beside it.
The protocol, and how to repeat it: [docs/accuracy.md](../../docs/accuracy.md).

AP in percent, mean ± sample standard deviation over the seeds. A difference is the mean over the
seeds, in percentage points, with its 95 % interval over seeds and images in square brackets. Each
section holds rows of one hash of settings and data.
"""


def write_report(results: Path, figures: Path | None = None) -> list[Path]:
    """Write the report and the figures of the results.

    Args:
        results: csv of the finished cells; the report goes beside it.
        figures: folder of the pictures; by default that of the results.

    Returns:
        The files written; none where there are no results.
    """
    groups = read_groups(results)
    if not groups:
        print(f"{results} has no row yet, so there is nothing to report.")
        return []
    sections = [_INTRODUCTION.format(csv=results.name), *map(_section, groups)]
    report = results.with_suffix(".md")
    write_atomically(report, "\n".join([*sections, _machines(groups)]).encode())
    folder = figures or results.parent
    curves, scores = (folder / f"{results.stem}{end}.png" for end in ("", "_scores"))
    draw_curves(groups, curves)
    draw_scores(groups, scores)
    return [report, curves, scores]


def _section(group: Group) -> str:
    """One group: the family, where its differences come from, its scores, and variants of CLQ."""
    parts = [f"## {group.data}, {group.hash}\n", _table(group, FAMILY, [BASELINE])]
    parts += ["\nDifference to ATSS at each IoU threshold:\n", _thresholds(group)]
    parts += ["\nHow well the score tells the IoU:\n", _scores(group)]
    for title, variants in (("Ablations of CLQ", ABLATIONS), ("CLQ with augmentations", AUGMENTED)):
        if any(member in variants for member in group.members):
            parts += [f"\n{title}:\n", _table(group, ["clq", *variants], ["clq"])]
    parts += ["\nAP of each class, and what a cell takes:\n", _classes(group)]
    missing = [
        f"- {member}, seeds {' '.join(map(str, seeds))}"
        for member, seeds in group.not_run().items()
    ]
    parts += ["\nNot run:\n", "\n".join(missing) or "- nothing: every cell has its row", ""]
    return "\n".join(parts)


def _table(group: Group, members: Iterable[str], baselines: Sequence[str]) -> str:
    lines = []
    for member in members:
        metrics = [_cell(spread(group.values(member, name))) for name in ("AP", "AP50", "AP75")]
        line = [member, len(group.of(member)), *metrics]
        for baseline in baselines:
            line += [_interval(group.difference(member, baseline, t)) for t in (ALL, AT_75)]
        lines.append(line)
    headers = ["member", "seeds", "AP", "AP50", "AP75"]
    headers += [f"{metric} minus {name}" for name in baselines for metric in ("AP", "AP75")]
    return _grid(lines, headers)


def _thresholds(group: Group) -> str:
    members = [member for member in FAMILY if member != BASELINE]
    curves = {member: group.curve(member, BASELINE) for member in members}
    lines = [
        [f"{threshold:.2f}", *(_interval(curve[t] if curve else None) for curve in curves.values())]
        for t, threshold in enumerate(IOU_THRESHOLDS)
    ]
    return _grid(lines, ["IoU", *members])


def _scores(group: Group) -> str:
    lines = []
    for member in group.members:
        lines.append(
            [
                member,
                _cell(spread(group.rank_correlations(member)), 3),
                _cell(spread(group.calibration_errors(member)), 3),
                _cell(spread(group.values(member, "AP_by_score"))),
                _cell(spread(group.values(member, "AP_by_true_IoU"))),
                _cell(spread(group.shares(member))),
            ]
        )
    headers = ["member", "rank correlation", "calibration error", "AP by score"]
    return _grid(lines, [*headers, "AP by true IoU", "share in percent"])


def _classes(group: Group) -> str:
    lines, names = [], []
    for member in group.members:
        rows = group.of(member).values()
        classes: list[Mapping[str, float]] = [json.loads(row["class_AP"]) for row in rows]
        names = list(classes[0])
        minutes = statistics.median(group.values(member, "cpu_seconds")) / 60
        aps = [_cell(spread([each[name] for each in classes])) for name in names]
        lines.append([member, *aps, f"{minutes:.1f}"])
    return _grid(lines, ["member", *(f"AP {name}" for name in names), "minutes of processor time"])


def _cell(value: Spread | None, digits: int = 1) -> str:
    if value is None:
        return _EMPTY
    std = "" if value.std is None else f" ± {value.std:.{digits}f}"
    return f"{value.mean:.{digits}f}{std}"


def _interval(value: Difference | None) -> str:
    if value is None:
        return ""
    if math.isnan(value.low):  # of one seed
        return f"{value.value:+.1f}"
    return f"{value.value:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"


def _machines(groups: Sequence[Group]) -> str:
    """Describe the machine and the commit of the rows, and the time they took."""
    made: dict[tuple[str, ...], list[float]] = {}
    for row in (row for group in groups for row in group.rows):
        where = tuple(row[field] for field in ("hash", "machine", "torch", "commit", "date"))
        made.setdefault(where, []).append(float(row["seconds"]))
    lines = [[*where, len(times), f"{sum(times) / 60:.0f}"] for where, times in made.items()]
    headers = ["hash", "machine", "torch", "commit", "date", "cells", "minutes"]
    return f"## Made by\n\n{_grid(lines, headers)}"


def _grid(lines: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True) + "\n"
