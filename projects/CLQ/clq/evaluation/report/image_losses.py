"""What single images cost: the AP of the other images minus the AP of all.

Letters: N images, K classes, D detections, T IoU thresholds.
"""

import numpy as np

from .average_precision import average_precision
from .matches import Matches
from .metrics import mean

_CANDIDATES_PER_IMAGE = 5  # images whose loss is computed for each that is wanted


def largest_losses(matches: Matches, number: int) -> dict[int, float]:
    """Find the images without which AP would be highest.

    The losses are exact. They are computed for the images whose first-order loss is largest, five
    times as many as wanted.

    Args:
        matches: of a run.
        number: of images.

    Returns:
        AP of all other images minus AP, in points, by index of the image; the largest first. Only
        losses above 0.
    """
    candidates = np.argsort(approximate_losses(matches) * -1, kind="stable")
    candidates = candidates[: number * _CANDIDATES_PER_IMAGE]
    weights = np.ones((len(candidates), len(matches.num_objects)), dtype=int)
    weights[np.arange(len(candidates)), candidates] = 0
    ap_of_all = mean(mean(average_precision(matches)))
    losses = mean(mean(average_precision(matches, weights))) - ap_of_all
    order = np.argsort(-losses, kind="stable")[:number]  # those that are nan last
    return {int(candidates[i]): float(losses[i]) for i in order if losses[i] > 0}


def approximate_losses(matches: Matches) -> np.ndarray:
    """Minus the derivative of AP by the weight of each image, in points, (N,).

    Of the AP under the whole curve instead of at COCO's 101 points of recall.
    """
    num_images = len(matches.num_objects)
    totals = matches.num_objects.sum(axis=0)
    defined = np.flatnonzero(totals)
    slopes = np.zeros(num_images)
    for k in defined:
        one = matches[matches.label == k]
        share = matches.num_objects[:, k] / totals[k]
        for is_match, is_ignored in zip(one.is_match.T, one.is_ignored.T):
            by_detection, ap = _slopes(is_match, is_ignored, totals[k])
            slopes += np.bincount(one.image, by_detection, num_images) - share * ap
    return -100 * slopes / max(len(defined) * matches.is_match.shape[1], 1)


def _slopes(
    is_match: np.ndarray, is_ignored: np.ndarray, num_objects: int
) -> tuple[np.ndarray, float]:
    """Derivative of a curve's AP by the weight of each detection, (D,), and the AP.

    AP is the mean over objects of the best precision P = H / C at the object's recall or a higher
    one, where H of C detections are right; each right one adds to H, and each to C, from its place
    on.
    """
    hits = np.flatnonzero(is_match)
    counted = np.cumsum(~is_ignored)[hits]
    precision = np.arange(1, len(hits) + 1) / counted
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # The hit with this best precision: the first at or after each hit.
    is_peak = precision == best
    peaks = np.flatnonzero(is_peak)[np.cumsum(is_peak) - is_peak]
    places = hits[peaks]
    later_hits = _sum_from_place(places, 1 / counted[peaks], len(is_match))
    later_counts = _sum_from_place(places, best / counted[peaks], len(is_match))
    slopes = is_match * later_hits - ~is_ignored * later_counts
    slopes[hits] += best
    return slopes / num_objects, best.sum() / num_objects


def _sum_from_place(places: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    """Sum of the values at each place or a later one, (length,)."""
    sums = np.zeros(length)
    np.add.at(sums, places, values)
    return sums[::-1].cumsum()[::-1]
