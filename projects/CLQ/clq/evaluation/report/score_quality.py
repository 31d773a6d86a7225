"""Quality of a score as a prediction of IoU; each measure is over the matches of one run."""

import math
from typing import Any

import numpy as np

from .matches import Matches
from .tables import rank_in_group

DETECTIONS_PER_IMAGE = 20
_BINS = 10


def rank_correlation(matches: Matches) -> float:
    """Spearman's rank correlation of score and IoU, where an object is matched at IoU 0.5.

    Of each image the ``DETECTIONS_PER_IMAGE`` best are looked at: a limit on the score would mean
    another number of detections for each member. nan where scores or IoUs do not differ.
    """
    chosen = best_of_each_image(matches, DETECTIONS_PER_IMAGE)
    chosen = chosen[chosen.is_match[:, 0]]
    return spearman(chosen.score, chosen.iou)


def calibration_error(matches: Matches, *, of: str = "iou") -> float:
    """Mean gap between score and IoU in bins of equal width, weighted by their detections.

    Over the ``DETECTIONS_PER_IMAGE`` best of each image, matched or not, except those in crowds;
    nan without any.

    Args:
        matches: of a run.
        of: "iou", or "correct" for the gap between score and the share of right detections.
    """
    bins = [bin_ for bin_ in reliability(matches) if bin_["count"]]
    total = sum(bin_["count"] for bin_ in bins)
    gaps = (bin_["count"] * abs(bin_["score"] - bin_[of]) for bin_ in bins)
    return sum(gaps) / total if total else math.nan


def reliability(matches: Matches) -> list[dict[str, Any]]:
    """Mean score, mean IoU and share of right detections in bins of score, of equal width.

    Over the ``DETECTIONS_PER_IMAGE`` best of each image, except those in crowds. A detection is
    right if it finds an object at IoU 0.5. Means of a bin without detections are None.
    """
    chosen = best_of_each_image(matches, DETECTIONS_PER_IMAGE)
    chosen = chosen[~chosen.is_ignored[:, 0]]
    bins = np.minimum((chosen.score.astype(float) * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    columns = {"score": chosen.score, "iou": chosen.iou, "correct": chosen.is_match[:, 0]}
    sums = {name: np.bincount(bins, values, _BINS) for name, values in columns.items()}
    return [
        {
            "low": i / _BINS,
            "high": (i + 1) / _BINS,
            **{
                name: float(each[i] / counts[i]) if counts[i] else None
                for name, each in sums.items()
            },
            "count": int(counts[i]),
        }
        for i in range(_BINS)
    ]


def best_of_each_image(matches: Matches, limit: int) -> Matches:
    """Select the detections of each image that score highest, at most ``limit``; best first."""
    return matches[rank_in_group(matches.image) < limit]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the ranks of two series (P,), where equal values share their mean rank."""
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return float("nan")
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
