"""The twelve COCO metrics of matches, and their bootstrap intervals over images.

Letters: N images, K classes, B draws of images, T IoU thresholds.
"""

import warnings
from typing import NamedTuple

import numpy as np

from ..results import METRIC_NAMES
from .average_precision import average_precision
from .matches import MatchedRun, Matches
from .tables import rank_in_group

_QUANTILES = (0.025, 0.975)  # of a 95 % interval
_MIN_DRAWS = 200
_MAX_DRAWN_DETECTIONS = 200_000_000  # half a minute


class Metrics(NamedTuple):
    """Metrics in percent of all images, or of B draws of them; nan if no object defines one.

    Attributes:
        by_name: `METRIC_NAMES`, each a number or (B,).
        ap: of each threshold and class with objects of all sizes, (T, K) or (B, T, K).
        ap_by_size: of each class with the objects of a size "s", "m" or "l", (K,) or (B, K).
    """

    by_name: dict[str, np.ndarray]
    ap: np.ndarray
    ap_by_size: dict[str, np.ndarray]


def compute_metrics(run: MatchedRun, weights: np.ndarray | None = None) -> Metrics:
    """Compute COCO's metrics.

    Args:
        run: matched with a limit of at least 100 detections of an image and class.
        weights: how often each image counts, (B, N); None counts each once.
    """
    ap = average_precision(run.matches, weights)
    sizes = ("s", "m", "l")
    ap_by_size = {
        size: average_precision(run.by_size[size], weights).mean(axis=-2) for size in sizes
    }
    values = [mean(mean(part)) for part in (ap, ap[..., [0], :], ap[..., [5], :])]
    values += [mean(ap_by_size[size]) for size in sizes]
    values += [average_recall(run.matches, weights, limit) for limit in (1, 10, 100)]
    values += [average_recall(run.by_size[size], weights) for size in sizes]
    return Metrics(dict(zip(METRIC_NAMES, values, strict=True)), ap, ap_by_size)


def average_recall(
    matches: Matches, weights: np.ndarray | None = None, limit: int | None = None
) -> np.ndarray:
    """COCO's AR in percent, averaged over thresholds and the classes that have objects.

    Args:
        matches: of a run.
        weights: how often each image counts, (B, N); None counts each once.
        limit: detections of an image and class that count, the best by score; all if None.

    Returns:
        A number, or (B,).
    """
    if limit is not None:
        matches = matches[rank_in_group(matches.image, matches.label) < limit]
    found = np.zeros(matches.num_objects.shape)
    np.add.at(found, (matches.image, matches.label), matches.is_match.mean(axis=1))
    if weights is None:
        weights = np.ones(len(found), dtype=int)
    num_objects = weights @ matches.num_objects
    recall = np.where(num_objects > 0, weights @ found / np.maximum(num_objects, 1), np.nan)
    return 100 * mean(recall)


def draw_images(num_images: int, num_draws: int, seed: int) -> np.ndarray:
    """Draw as many images as there are, with replacement; how often each is drawn, (B, N)."""
    shares = np.full(num_images, 1 / num_images)
    return np.random.default_rng(seed).multinomial(num_images, shares, size=num_draws)


def affordable_draws(num_draws: int, num_detections: int) -> int:
    """Lower the number of draws where there are many detections, but to no less than 200."""
    return min(num_draws, max(_MAX_DRAWN_DETECTIONS // max(num_detections, 1), _MIN_DRAWS))


def interval(value: float | np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a metric; nan where no draw defines one.

    An image that is drawn twice agrees with itself, which raises AP in the draws. So they are
    shifted until their mean is the value.

    Args:
        value: of all images.
        draws: of drawn images, (B,).
    """
    known = draws[~np.isnan(draws)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, _QUANTILES) - known.mean() + value
    return float(low), float(high)


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined; nan where nothing is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.nanmean(values, axis=-1)
