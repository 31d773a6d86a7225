"""Metrics and their intervals, on cases whose distribution is known."""

from math import comb

import numpy as np
import pytest

from clq.evaluation import METRIC_NAMES, evaluate_boxes
from clq.evaluation.report.matches import match_run
from clq.evaluation.report.metrics import (
    affordable_draws,
    average_recall,
    compute_metrics,
    draw_images,
    interval,
)
from reference.made_up_run import made_up_run


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_the_evaluation(seed: int):
    content, found = made_up_run(seed=seed)
    expected = evaluate_boxes(content, found)
    metrics = compute_metrics(match_run(content, found))
    assert metrics.by_name == pytest.approx({name: expected[name] for name in METRIC_NAMES})


def test_weighted_metrics_are_those_of_single_draws():
    run = match_run(*made_up_run())
    weights = draw_images(12, 3, seed=0)
    together = compute_metrics(run, weights)
    for b in range(3):
        alone = compute_metrics(run, weights[b])
        for name, values in together.by_name.items():
            np.testing.assert_allclose(values[b], alone.by_name[name], err_msg=name)


def one_object_each(num_images: int, found: list[bool]) -> tuple[dict, list[dict]]:
    """Images with one object each, found or not; nothing false."""
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 50, 50]}
        for i in range(1, num_images + 1)
    ]
    truth = {
        "images": [{"id": i, "width": 99, "height": 99} for i in range(1, num_images + 1)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": annotations,
    }
    return truth, [{**a, "score": 0.5} for a, is_found in zip(annotations, found) if is_found]


def binomial_quantile(number: int, share: float, level: float) -> int:
    total = 0.0
    for k in range(number + 1):
        total += comb(number, k) * share**k * (1 - share) ** (number - k)
        if total >= level:
            return k
    raise AssertionError("the levels are below 1")


def test_an_interval_that_is_known():
    """Where 60 of 100 images are right, the number in as many drawn ones is binomial.

    AR is their share, and AP the share of the points of recall that it reaches.
    """
    run = match_run(*one_object_each(100, [i % 5 < 3 for i in range(100)]))
    metrics = compute_metrics(run, draw_images(100, 4000, seed=0))
    expected = [binomial_quantile(100, 0.6, level) for level in (0.025, 0.975)]  # 50 and 69
    low, high = interval(60, metrics.by_name["AR100"])
    assert [low, high] == pytest.approx(expected, abs=1.5)
    low, high = interval(6100 / 101, metrics.by_name["AP"])
    assert [low, high] == pytest.approx([100 * (k + 1) / 101 for k in expected], abs=1.5)


def test_an_interval_holds_what_another_set_of_images_gives():
    """It is as wide as the AP of 60 other sets of images varies, times 2 x 1.96."""
    run = match_run(*made_up_run(60, seed=0))
    values = [compute_metrics(match_run(*made_up_run(60, seed=s))).by_name["AP"] for s in range(60)]
    low, high = interval(0, compute_metrics(run, draw_images(60, 300, seed=0)).by_name["AP"])
    assert low < 0 < high
    assert high - low == pytest.approx(2 * 1.96 * np.std(values), rel=0.25)


def test_an_interval_is_around_its_value():
    assert interval(7.0, np.array([9.0, 10.0, 11.0])) == pytest.approx((6.05, 7.95))
    assert interval(7.0, np.array([np.nan, 9.0, 9.0])) == (7, 7)
    assert np.isnan(interval(np.nan, np.array([np.nan]))).all()


def test_every_draw_has_as_many_images():
    draws = draw_images(7, 50, seed=0)
    assert draws.shape == (50, 7) and (draws.sum(axis=1) == 7).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(7), abs=0.5)
    assert np.array_equal(draws, draw_images(7, 50, seed=0))
    assert not np.array_equal(draws, draw_images(7, 50, seed=1))


def test_many_detections_get_fewer_draws():
    assert affordable_draws(1000, 0) == affordable_draws(1000, 200_000) == 1000
    assert affordable_draws(1000, 500_000) == 400
    assert affordable_draws(1000, 10_000_000) == 200
    assert affordable_draws(50, 10_000_000) == 50


def test_recall_by_the_number_of_detections():
    """Two objects in an image of a class: the better detection finds one, both find both."""
    truth, _ = one_object_each(1, [True])
    first = truth["annotations"][0]
    truth["annotations"].append({**first, "id": 2, "bbox": [60, 0, 30, 50]})
    found = [{**a, "score": 0.9 - 0.1 * i} for i, a in enumerate(truth["annotations"])]
    matches = match_run(truth, found).matches
    assert [average_recall(matches, limit=limit) for limit in (1, 10)] == [50, 100]
