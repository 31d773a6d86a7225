"""From rows to what the report shows: groups of comparable rows, means, spreads, differences."""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import read_rows
from clq.evaluation.report.matches import IOU_THRESHOLDS, Matches
from clq.evaluation.report.score_quality import calibration_error, rank_correlation

from .bootstrap import Difference, Resampled, difference, resample
from .cells import MEMBERS, study_cells
from .matches_file import load_matches
from .rows import cell_of, matches_file

Row = Mapping[str, str]
_SCORE_THRESHOLD = 0.05  # of the detectors' own inference
ALL, AT_75 = slice(None), slice(5, 6)


class Spread(NamedTuple):
    """Mean over seeds, and their sample standard deviation (None for a single seed)."""

    mean: float
    std: float | None


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and spread of the seeds' values; None where there is none."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return None
    return Spread(statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None)


class Group:
    """The rows of one data set and one hash, which may be compared, with their matches."""

    def __init__(self, rows: Sequence[Row], results: Path) -> None:
        """
        Args:
            rows: of one data set and one hash.
            results: csv that they are from, beside which the matches lie.
        """
        self.data, self.hash = rows[0]["data"], rows[0]["hash"]
        self.rows = rows
        self._results = results
        self._resampled: dict[tuple[str, tuple[int, ...]], Resampled] = {}

    @cached_property
    def members(self) -> list[str]:
        """Those with a row, in the order of the study."""
        found = {row["member"] for row in self.rows}
        return [member for member in MEMBERS if member in found]

    def of(self, member: str) -> dict[int, Row]:
        """The rows of a member by seed, in rising order."""
        rows = {int(row["seed"]): row for row in self.rows if row["member"] == member}
        return dict(sorted(rows.items()))

    def values(self, member: str, field: str) -> list[float]:
        """A column of a member's rows, nan where it is empty."""
        return [float(row[field] or "nan") for row in self.of(member).values()]

    def matches(self, member: str) -> dict[int, Matches]:
        """The matches of a member by seed."""
        rows = self.of(member).items()
        return {seed: load_matches(matches_file(self._results, row)) for seed, row in rows}

    def rank_correlations(self, member: str) -> list[float]:
        return [rank_correlation(matches) for matches in self.matches(member).values()]

    def calibration_errors(self, member: str) -> list[float]:
        return [calibration_error(matches) for matches in self.matches(member).values()]

    def shares(self, member: str) -> list[float]:
        """Share of the AP that ranking by true IoU would reach, in percent; nan where that is 0."""
        pairs = zip(self.values(member, "AP_by_score"), self.values(member, "AP_by_true_IoU"))
        return [100 * by_score / by_iou if by_iou else math.nan for by_score, by_iou in pairs]

    def difference(self, member: str, baseline: str, thresholds: slice = ALL) -> Difference | None:
        """Member minus baseline over the seeds that both have; None without any."""
        seeds = tuple(seed for seed in self.of(baseline) if seed in self.of(member))
        if not seeds or member == baseline:
            return None
        first, second = (self._resample(name, seeds) for name in (baseline, member))
        return difference(first, second, thresholds)

    def curve(self, member: str, baseline: str) -> list[Difference]:
        """The difference at each IoU threshold; empty where the members share no seed."""
        each = (slice(t, t + 1) for t in range(len(IOU_THRESHOLDS)))
        found = [self.difference(member, baseline, threshold) for threshold in each]
        return [one for one in found if one is not None]

    def _resample(self, member: str, seeds: tuple[int, ...]) -> Resampled:
        key = member, seeds
        if key not in self._resampled:
            runs = self.matches(member)
            self._resampled[key] = resample(
                [runs[seed][runs[seed].score > _SCORE_THRESHOLD] for seed in seeds]
            )
        return self._resampled[key]

    def not_run(self) -> dict[str, list[int]]:
        """The seeds of the study that have no row on this data set, by member."""
        done = {cell_of(row) for row in self.rows}
        missing: dict[str, list[int]] = {}
        for cell in study_cells([self.data]):
            if cell not in done:
                missing.setdefault(cell.member, []).append(cell.seed)
        return missing


def read_groups(results: Path) -> list[Group]:
    """The groups of a csv, in the order of their first rows."""
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in read_rows(results):
        rows.setdefault((row["data"], row["hash"]), []).append(row)
    return [Group(group, results) for group in rows.values()]
