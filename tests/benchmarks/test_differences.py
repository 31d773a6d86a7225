"""Differences between members on detections whose AP is known."""

import copy
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.differences import METRICS, bootstrap_differences, side_by_side
from clq.evaluation import evaluate_boxes

NUM_IMAGES = 12


def truth() -> dict[str, Any]:
    """Images with one object of each of two classes."""
    annotations = [
        {"id": 2 * i + k, "image_id": i, "category_id": k, "bbox": [10 * i, 5, 40, 40]}
        for i in range(1, NUM_IMAGES + 1)
        for k in (1, 4)
    ]
    return {
        "images": [{"id": i, "width": 300, "height": 100} for i in range(1, NUM_IMAGES + 1)],
        "categories": [{"id": 1, "name": "a"}, {"id": 4, "name": "b"}],
        "annotations": annotations,
    }


def detections(shift: float, seed: int = 0) -> list[dict[str, Any]]:
    """The objects, moved sideways by up to ``shift`` pixels."""
    rng = np.random.default_rng(seed)
    found = []
    for annotation in truth()["annotations"]:
        x, y, w, h = annotation["bbox"]
        box = [x + shift * float(rng.random()), y, w, h]
        ids = {key: annotation[key] for key in ("image_id", "category_id")}
        found.append({**ids, "bbox": box, "score": float(rng.uniform(0.1, 1))})
    return found


def test_identical_detections_differ_by_nothing():
    runs = [detections(8, seed) for seed in range(3)]
    for difference in bootstrap_differences(truth(), runs, copy.deepcopy(runs)).values():
        assert difference == (0, 0, 0)


def test_clearly_better_detections_give_a_positive_interval():
    worse, better = ([detections(shift, s) for s in range(3)] for shift in (16, 4))
    found = bootstrap_differences(truth(), worse, better)
    assert set(found) == set(METRICS)
    assert 0 < found["AP"].low < found["AP"].value < found["AP"].high <= 100
    reverse = bootstrap_differences(truth(), better, worse)
    assert reverse["AP"] == pytest.approx([-found["AP"][i] for i in (0, 2, 1)])


@pytest.mark.parametrize("metric", METRICS)
def test_the_value_is_the_mean_of_the_seeds_differences(metric: str):
    first, second = ([detections(shift, s) for s in range(3)] for shift in (14, 9))
    single = [
        evaluate_boxes(truth(), b)[metric] - evaluate_boxes(truth(), a)[metric]
        for a, b in zip(first, second)
    ]
    found = bootstrap_differences(truth(), first, second)[metric]
    assert found.value == pytest.approx(np.mean(single))


def test_the_interval_is_that_of_a_plain_bootstrap():
    """Against images drawn one by one with NumPy, for one seed."""
    first, second = detections(14), detections(9, seed=1)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(200):
        drawn = rng.integers(1, NUM_IMAGES + 1, NUM_IMAGES)
        content = resample(truth(), drawn)
        aps = [evaluate_boxes(content, redraw(found, drawn))["AP"] for found in (first, second)]
        differences.append(aps[1] - aps[0])
    low, high = np.quantile(differences, (0.025, 0.975))
    found = bootstrap_differences(truth(), [first], [second])["AP"]
    width = high - low
    assert found.low == pytest.approx(low, abs=0.2 * width)
    assert found.high == pytest.approx(high, abs=0.2 * width)


def redraw(entries: list[dict[str, Any]], drawn: np.ndarray) -> list[dict[str, Any]]:
    """The entries of the drawn images, which count from 1 in the order of drawing."""
    return [
        {**entry, "image_id": new}
        for new, old in enumerate(drawn.tolist(), start=1)
        for entry in entries
        if entry["image_id"] == old
    ]


def resample(content: dict[str, Any], drawn: np.ndarray) -> dict[str, Any]:
    images = [{"id": i, "width": 300, "height": 100} for i in range(1, len(drawn) + 1)]
    return {**content, "images": images, "annotations": redraw(content["annotations"], drawn)}


def test_every_seed_gets_classes_of_its_own():
    content = side_by_side(truth(), 3)
    assert len({category["id"] for category in content["categories"]}) == 6
    assert len(content["annotations"]) == 3 * len(truth()["annotations"])
    assert content["images"] == truth()["images"]
