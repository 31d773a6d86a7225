"""The rank correlation against numbers worked out by hand."""

import math

import numpy as np
import pytest

from benchmarks.accuracy.ranking import rank_correlation, spearman

# One image, one object of class 1 at (0, 0, 10, 10).
TRUTH = {
    "images": [{"id": 5, "width": 50, "height": 50}],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [0, 0, 10, 10]}],
}


def detection(width: float, score: float, category: int = 1) -> dict:
    """A box from the object's corner: its IoU is width / 10."""
    box = [0, 0, width, 10]
    return {"image_id": 5, "category_id": category, "bbox": box, "score": score}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [10, 20, 90], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        # ranks 1 2 3 4 5 and 2 1 4 3 5: 1 - 6 * (1 + 1 + 1 + 1) / (5 * 24)
        ([1, 2, 3, 4, 5], [20, 10, 40, 30, 50], 0.8),
        # ranks 1, 2.5, 2.5, 4 and 1 2 3 4: 4.5 / sqrt(4.5 * 5)
        ([0, 7, 7, 9], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),
    ],
)
def test_spearman(first: list[float], second: list[float], expected: float):
    assert spearman(np.array(first), np.array(second)) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_too_few_values_have_no_correlation(values: list[float]):
    assert math.isnan(spearman(np.array(values), np.arange(len(values), dtype=float)))


def test_scores_that_follow_the_fit():
    found = [detection(10, 0.9), detection(8, 0.6), detection(5, 0.3)]
    assert rank_correlation(TRUTH, found) == pytest.approx(1)
    assert rank_correlation(TRUTH, [detection(10, 0.1), *found[1:]]) == pytest.approx(-0.5)


def test_another_class_has_no_iou():
    """IoU 1, 0.5 and, of a class without an object here, 0: by score the last is the best."""
    found = [detection(10, 0.5), detection(5, 0.3), detection(10, 0.9, category=2)]
    assert rank_correlation(TRUTH, found) == pytest.approx(-0.5)


def test_low_scores_and_crowds_are_left_out():
    found = [detection(10, 0.9), detection(5, 0.3)]
    assert rank_correlation(TRUTH, [*found, detection(10, 0.05)]) == pytest.approx(1)
    crowd = {**TRUTH["annotations"][0], "id": 2, "bbox": [0, 0, 5, 10], "iscrowd": 1}
    truth = {**TRUTH, "annotations": [*TRUTH["annotations"], crowd]}
    assert rank_correlation(truth, found) == pytest.approx(1)


def test_the_best_of_several_objects_counts():
    other = {**TRUTH["annotations"][0], "id": 2, "bbox": [0, 0, 5, 10]}
    truth = {**TRUTH, "annotations": [*TRUTH["annotations"], other]}
    # IoU 1, 0.8 and now 1 instead of 0.5: ranks 2.5, 1, 2.5 beside 3, 2, 1 of the scores.
    found = [detection(10, 0.9), detection(8, 0.6), detection(5, 0.3)]
    assert rank_correlation(truth, found) == pytest.approx(0)
