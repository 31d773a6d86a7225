"""Differences between members: their value, and that their intervals hold."""

import numpy as np
import pytest

from benchmarks.accuracy.bootstrap import Resampled, difference, resample
from clq.evaluation import evaluate_boxes
from clq.evaluation.report.matches import match_detections
from reference.made_up_detections import detections, truth


def runs(shift: float, seeds: int = 3) -> Resampled:
    return resample([match_detections(truth(), detections(shift, s)) for s in range(seeds)], 100)


def test_identical_members_differ_by_nothing():
    assert difference(runs(8), runs(8)) == (0, 0, 0)


def test_a_clearly_better_member_has_a_positive_interval():
    found = difference(runs(16), runs(4))
    assert 0 < found.low < found.value < found.high <= 100
    reverse = difference(runs(4), runs(16))
    assert reverse == pytest.approx((-found.value, -found.high, -found.low))


@pytest.mark.parametrize(
    ("metric", "thresholds"), (("AP", slice(None)), ("AP50", slice(0, 1)), ("AP75", slice(5, 6)))
)
def test_the_value_is_the_mean_of_the_seeds_differences(metric: str, thresholds: slice):
    single = [
        evaluate_boxes(truth(), detections(9, s))[metric]
        - evaluate_boxes(truth(), detections(14, s))[metric]
        for s in range(3)
    ]
    found = difference(runs(14), runs(9), thresholds)
    assert found.value == pytest.approx(np.mean(single))


def test_one_seed_has_no_interval():
    found = difference(runs(14, seeds=1), runs(9, seeds=1))
    assert found.value > 0 and np.isnan(found.low) and np.isnan(found.high)


@pytest.mark.parametrize("num_seeds", (3, 5))
@pytest.mark.parametrize(
    "deviations",
    ((1.0, 0.01, 0.01), (0.01, 3.0, 0.1), (0.3, 3.0, 1.0)),
    ids=("seeds", "images", "both"),
)
def test_the_interval_holds_the_truth(num_seeds: int, deviations: tuple[float, float, float]):
    """The true difference is 0 in all 300 trials; 95 % of them should say that it may be.

    AP is the mean over images of a number that varies with seed, image and both.
    """
    rng = np.random.default_rng(0)
    of_seed, of_image, of_both = deviations
    num_images, holds = 60, 0
    for _ in range(300):
        ap = rng.normal(0, of_seed, (num_seeds, 1)) + rng.normal(0, of_image, num_images)
        ap = ap + rng.normal(0, of_both, (num_seeds, num_images))
        counts = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=150)
        values, draws = ap.mean(axis=1), counts @ ap.T / num_images
        member = Resampled(values[:, None, None], draws[..., None, None])
        found = difference(Resampled(0 * member.value, 0 * member.draws), member)
        holds += found.low <= 0 <= found.high
    assert holds / 300 > 0.91  # a plain bootstrap of five seeds holds it in 0.85
