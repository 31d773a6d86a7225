"""Precision, recall and F1 over the score threshold, at IoU 0.5.

A threshold s keeps the detections of score >= s, as `clq predict` does. Those in crowds count
neither as found nor as false.
"""

import math
from typing import NamedTuple

import numpy as np

from .matches import Matches

GRID = np.linspace(0, 1, 101).round(2)


class Counts(NamedTuple):
    """Detections of one or all classes, highest score first, and how often they were right.

    Attributes:
        score: distinct scores in descending order, (P,).
        found: objects that the detections of at least this score find, (P,).
        kept: number of these detections, (P,).
        num_objects: to be found.
    """

    score: np.ndarray
    found: np.ndarray
    kept: np.ndarray
    num_objects: int

    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall at each score, (P,)."""
        return 2 * self.found / np.maximum(self.kept + self.num_objects, 1)


def count(matches: Matches, label: int | None = None) -> Counts:
    """Count what detections find at each of their scores.

    Args:
        matches: of a run.
        label: index of a class; None pools all classes.
    """
    rows = ~matches.is_ignored[:, 0]
    num_objects = matches.num_objects.sum()
    if label is not None:
        rows &= matches.label == label
        num_objects = matches.num_objects[:, label].sum()
    score = matches.score[rows]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
    found = np.cumsum(matches.is_match[rows, 0])
    return Counts(score[last], found[last], last + 1, int(num_objects))


def curve(counts: Counts) -> dict[str, list[float | None]]:
    """Precision, recall and F1 on `GRID`; None where nothing is left to define them."""
    rows = np.searchsorted(-counts.score, -GRID, side="right")  # scores at or above
    found = np.append(0, counts.found)[rows]
    kept = np.append(0, counts.kept)[rows]
    return {
        "score": GRID.tolist(),
        "precision": _ratios(found, kept),
        "recall": _ratios(found, np.full_like(found, counts.num_objects)),
        "f1": _ratios(2 * found, kept + counts.num_objects),
    }


def best_threshold(counts: Counts) -> dict[str, float] | None:
    """Find the score threshold of the best F1 among all scores; None if nothing is found.

    Of equal ones the highest is taken. The threshold has as few digits as tell the lowest score
    that it keeps from the next.
    """
    if not counts.found.any():
        return None
    best = int(counts.f1().argmax())
    score = float(counts.score[best])
    below = float(counts.score[best + 1]) if best + 1 < len(counts.score) else -math.inf
    found, kept = int(counts.found[best]), int(counts.kept[best])
    return {
        "score": short_threshold(below, score),
        "precision": found / kept,
        "recall": found / counts.num_objects,
        "f1": 2 * found / (kept + counts.num_objects),
    }


def short_threshold(below: float, score: float) -> float:
    """Round a score down to as few digits as keep it above ``below``, but at least two."""
    for digits in range(2, 17):
        rounded = math.floor(score * 10**digits) / 10**digits
        if below < rounded <= score:
            return rounded
    return score


def _ratios(numerators: np.ndarray, denominators: np.ndarray) -> list[float | None]:
    pairs = zip(numerators.tolist(), denominators.tolist())
    return [numerator / denominator if denominator else None for numerator, denominator in pairs]
