"""The rows of the table: what is divided by what, and where it should be at most."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

NOT_COMPARED = "n/a"


class Row(NamedTuple):
    """A comparison of measured series, one number of each round."""

    name: str
    ours: tuple[str, ...]  # names of series: the first, divided by the others
    peer: tuple[str, ...] | None
    bar: float | None  # of the ratio, or of ours where there is no peer; at most

    def series(self) -> tuple[str, ...]:
        return (*self.ours, *(self.peer or ()))


def result(
    row: Row, series: Mapping[str, Sequence[float]], unit: str, **other: Any
) -> dict[str, Any]:
    """The row as it is written to the json.

    Each value is a median over the rounds and the ratio that of the medians, so that the numbers
    of a row agree with each other. Beside it stand the lowest and the highest ratio of a round,
    if there were several.

    Args:
        row: what to compare.
        series: by name; where one is missing, this machine cannot make it and nothing is compared.
        unit: of the series.
        other: further fields.
    """
    ours = _value(row.ours, series)
    peer = _value(row.peer, series) if row.peer else None
    ratio = spread = None
    if row.peer and ours is not None and peer is not None:
        ratio = ours / peer
        ratios = [a / b for a, b in zip(_rounds(row.ours, series), _rounds(row.peer, series))]
        spread = [min(ratios), max(ratios)] if len(ratios) > 1 else None
    judged = ratio if row.peer else ours
    is_comparable = set(row.series()) <= series.keys()
    return {
        "name": row.name,
        "ours": ours,
        "peer": peer,
        "ratio": ratio if is_comparable else NOT_COMPARED,
        "bar": row.bar,
        "ok": None if judged is None or row.bar is None else judged <= row.bar,
        "spread": spread,
        "unit": unit if len(row.ours) == 1 else f"{unit}/{unit}",
        **other,
    }


def _value(names: tuple[str, ...], series: Mapping[str, Sequence[float]]) -> float | None:
    """Median of the first series, divided by the medians of the others."""
    if not series.keys() >= set(names):
        return None
    first, *others = (median(series[name]) for name in names)
    return first / math.prod(others)


def _rounds(names: tuple[str, ...], series: Mapping[str, Sequence[float]]) -> list[float]:
    """As the value, of each round."""
    return [first / math.prod(others) for first, *others in zip(*(series[n] for n in names))]
