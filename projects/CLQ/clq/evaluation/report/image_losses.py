"""The cost of single images: the AP of the other images minus the AP of all.

Letters: N images, K classes, D detections, T IoU thresholds.
"""

import numpy as np

from .average_precision import average_precision
from .matches import Matches
from .metrics import mean

CANDIDATES = 5  # images whose exact loss is computed for each that is wanted


def largest_losses(matches: Matches, number: int) -> dict[int, float]:
    """Find the images without which AP would be highest.

    Exact losses are computed for the images whose approximate loss is largest.

    Args:
        matches: of a run.
        number: of images.

    Returns:
        The loss in points by index of the image, the largest first; only losses above 0.
    """
    approximate = approximate_losses(matches)
    candidates = np.argsort(-approximate, kind="stable")[: number * CANDIDATES]
    losses = exact_losses(matches, candidates)
    order = np.argsort(-losses, kind="stable")[:number]  # nan last
    return {int(candidates[i]): float(losses[i]) for i in order if losses[i] > 0}


def exact_losses(matches: Matches, images: np.ndarray) -> np.ndarray:
    """AP of all other images minus AP, in points, of some images by index; both (I,).

    nan where no other image has an object.
    """
    weights = np.ones((len(images), len(matches.num_objects)), dtype=int)
    weights[np.arange(len(images)), images] = 0
    every = mean(mean(average_precision(matches)))
    return mean(mean(average_precision(matches, weights))) - every


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
