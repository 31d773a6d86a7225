"""Quality of a score as a prediction of IoU; each measure is over the matches of one run."""

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


def calibration_error(matches: Matches) -> float:
    """Mean gap between score and IoU in bins of equal width, weighted by their detections.

    Over the ``DETECTIONS_PER_IMAGE`` best of each image, matched or not, except those in crowds.
    """
    chosen = best_of_each_image(matches, DETECTIONS_PER_IMAGE)
    chosen = chosen[~chosen.is_ignored[:, 0]]
    if not len(chosen.score):
        return float("nan")
    gaps = chosen.score.astype(float) - chosen.iou
    bins = np.minimum((chosen.score.astype(float) * _BINS).astype(int), _BINS - 1)
    return float(np.abs(np.bincount(bins, gaps, minlength=_BINS)).sum() / len(gaps))


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
