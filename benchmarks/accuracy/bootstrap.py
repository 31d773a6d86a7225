"""The difference between two members with an interval over seeds and images.

Letters: S seeds, N images, B draws of images, T IoU thresholds, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clq.evaluation.report.average_precision import average_precision
from clq.evaluation.report.matches import Matches

DRAWS_OF_IMAGES = 1000  # B
_DRAWS_OF_SEEDS = 10  # for each of those
_QUANTILES = (0.025, 0.975)


class Resampled(NamedTuple):
    """AP of a member's seeds, in percent.

    Attributes:
        value: of all images, (S, T, K).
        draws: of drawn images, (B, S, T, K).
    """

    value: np.ndarray
    draws: np.ndarray


class Difference(NamedTuple):
    """Member minus baseline in percentage points: mean over the seeds, and its 95 % interval.

    The interval is nan where there is one seed only: nothing is known then of what another does.
    """

    value: float
    low: float
    high: float


def resample(runs: Sequence[Matches], draws: int = DRAWS_OF_IMAGES) -> Resampled:
    """Compute the AP of each seed on images drawn with replacement.

    The draws depend on nothing but the number of images, so that members are drawn alike.

    Args:
        runs: of one member, one for each seed, on the same images.
        draws: B.
    """
    num_images = len(runs[0].num_objects)
    counts = np.random.default_rng(0).multinomial(
        num_images, np.full(num_images, 1 / num_images), size=draws
    )  # (B, N)
    return Resampled(
        np.stack([average_precision(run) for run in runs]),
        np.stack([average_precision(run, counts) for run in runs], axis=1),
    )


def difference(
    baseline: Resampled, member: Resampled, thresholds: slice = slice(None)
) -> Difference:
    """Compare two members by their mean AP over thresholds and classes.

    A paired hierarchical bootstrap: seeds are drawn, then images, for both members alike. The mean
    over drawn seeds varies less than it would over new seeds, by the factor (S - 1) / S, and how
    much seeds vary is itself a guess from S of them. So the drawn seeds' deviation from the mean is
    stretched by the square root of S / (S - 1) and of (S - 1) / chi-squared with S - 1 degrees of
    freedom, drawn too: what makes a normal deviate one of Student's t. Without, five seeds would
    hold the truth in 85 % of the cases instead of 95.

    Args:
        baseline: seeds in the same order as the member's.
        member: to compare with it.
        thresholds: of IoU; all by default.
    """
    values = _mean_ap(member.value, thresholds) - _mean_ap(baseline.value, thresholds)  # (S,)
    draws = _mean_ap(member.draws, thresholds) - _mean_ap(baseline.draws, thresholds)  # (B, S)
    num_draws, num_seeds = draws.shape
    if num_seeds == 1:
        return Difference(float(values.mean()), np.nan, np.nan)
    rng = np.random.default_rng(1)
    shape = (num_draws, _DRAWS_OF_SEEDS)
    chosen = rng.integers(num_seeds, size=(*shape, num_seeds))
    means = draws.mean(axis=1, keepdims=True)  # (B, 1)
    deviations = draws[np.arange(num_draws)[:, None, None], chosen].mean(axis=2) - means
    stretch = np.sqrt(num_seeds / rng.chisquare(num_seeds - 1, size=shape))
    low, high = np.quantile(means + stretch * deviations, _QUANTILES)
    return Difference(float(values.mean()), float(low), float(high))


def _mean_ap(ap: np.ndarray, thresholds: slice) -> np.ndarray:
    """COCO's mean of (..., T, K) over the classes that have objects."""
    return np.nanmean(ap[..., thresholds, :], axis=(-2, -1))
