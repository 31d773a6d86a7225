"""Quality of scores as predictions of IoU, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from clq.evaluation.coco_evaluation import run_coco_eval
from clq.evaluation.report.matches import Matches, match_detections
from clq.evaluation.report.score_quality import (
    DETECTIONS_PER_IMAGE,
    best_of_each_image,
    calibration_error,
    rank_correlation,
    reliability,
    spearman,
)
from reference.made_up_run import made_up_run

# One image, one object of class 1 at (0, 0, 10, 10) and one at (20, 0, 10, 10).
TRUTH = {
    "images": [{"id": 5, "width": 50, "height": 50}],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "annotations": [
        {"id": i + 1, "image_id": 5, "category_id": 1, "bbox": [x, 0, 10, 10]}
        for i, x in enumerate((0, 15, 30))
    ],
}


def detection(x: float, width: float, score: float, category: int = 1) -> dict:
    """A box from an object's corner: its IoU is width / 10."""
    box = [x, 0, width, 10]
    return {"image_id": 5, "category_id": category, "bbox": box, "score": score}


def matches(*found: dict) -> Matches:
    return match_detections(TRUTH, found)


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
    rest = [detection(15, 8, 0.6), detection(30, 6, 0.3)]
    assert rank_correlation(matches(detection(0, 10, 0.9), *rest)) == pytest.approx(1)
    # Ranks of the scores 1 3 2, of the IoUs 3 2 1.
    assert rank_correlation(matches(detection(0, 10, 0.1), *rest)) == pytest.approx(-0.5)


def test_what_matches_nothing_is_not_ranked():
    """A second box of an object, one of another class, one that fits too little."""
    found = [detection(0, 10, 0.9), detection(15, 8, 0.6), detection(30, 6, 0.3)]
    more = [detection(0, 9, 0.5), detection(0, 10, 0.2, category=2), detection(15, 4, 0.95)]
    assert rank_correlation(matches(*found, *more)) == pytest.approx(1)


def test_calibration_error_of_two_bins():
    """Scores 0.85 and 0.81 in one bin, for IoUs 1 and 0.5; 0.35 in another, for 0."""
    found = [detection(0, 10, 0.85), detection(15, 5, 0.81), detection(0, 10, 0.35, category=2)]
    expected = abs(0.85 + 0.81 - 1.5) / 3 + 0.35 / 3
    assert calibration_error(matches(*found)) == pytest.approx(expected, abs=1e-3)
    assert math.isnan(calibration_error(matches()))


def test_a_perfect_score_of_one_has_a_bin():
    assert calibration_error(matches(detection(0, 10, 1.0))) == 0


def test_a_fixed_number_of_each_image_counts():
    """The best of each image, in the order of the whole."""
    rng = np.random.default_rng(0)
    images = [{"id": i, "width": 50, "height": 50} for i in range(3)]
    found = [
        {**detection(0, 10, float(rng.random())), "image_id": i}
        for i, number in enumerate((5, DETECTIONS_PER_IMAGE, DETECTIONS_PER_IMAGE + 9))
        for _ in range(number)
    ]
    all_matches = match_detections({**TRUTH, "images": images, "annotations": []}, found)
    chosen = best_of_each_image(all_matches, DETECTIONS_PER_IMAGE)
    assert (np.diff(chosen.score) <= 0).all()
    for i, number in enumerate((5, DETECTIONS_PER_IMAGE, DETECTIONS_PER_IMAGE)):
        of_image = all_matches.score[all_matches.image == i]
        assert np.array_equal(chosen.score[chosen.image == i], of_image[:number])


def test_bins_are_those_of_counting_one_by_one():
    content, found = made_up_run(30)
    run = match_detections(content, found)
    rows = [
        (score, iou, is_match[0])
        for score, iou, is_match, is_ignored in zip(
            run.score, run.iou, run.is_match, run.is_ignored
        )
        if not is_ignored[0]
    ]
    bins = reliability(run)
    assert sum(bin_["count"] for bin_ in bins) == len(rows) and len(bins) == 10
    error = {"iou": 0.0, "correct": 0.0}
    for i, bin_ in enumerate(bins):
        inside = [row for row in rows if i <= 10 * row[0] < i + 1 + (i == 9)]
        means = np.mean(inside, axis=0)
        assert bin_["low"] == i / 10 and bin_["high"] == (i + 1) / 10
        assert bin_["count"] == len(inside)
        assert [bin_["score"], bin_["iou"], bin_["correct"]] == pytest.approx(means)
        for name, mean in zip(error, means[1:]):
            error[name] += len(inside) * abs(means[0] - mean) / len(rows)
    assert calibration_error(run) == pytest.approx(error["iou"])
    assert calibration_error(run, of="correct") == pytest.approx(error["correct"])


def test_calibration_is_that_of_hotcoco():
    """Without scores on the edge of a bin, which hotcoco puts into the lower one."""
    content, found = made_up_run(30, with_crowds=False)
    found = [{**detection, "score": detection["score"] - 0.001} for detection in found]
    expected = run_coco_eval(content, found).calibration(n_bins=10, iou_threshold=0.5)
    run = match_detections(content, found)
    assert calibration_error(run, of="correct") == pytest.approx(expected["ece"])
    for ours, theirs in zip(reliability(run), expected["bins"], strict=True):
        assert ours["count"] == theirs["count"]
        assert ours["correct"] == pytest.approx(theirs["avg_accuracy"])
        assert ours["score"] == pytest.approx(theirs["avg_confidence"])


def test_a_bin_without_detections_has_no_means():
    bins = reliability(matches(detection(0, 10, 0.85)))
    assert bins[0] == {**bins[0], "score": None, "iou": None, "correct": None, "count": 0}
    assert bins[8] == {**bins[8], "score": 0.85, "iou": 1, "correct": 1, "count": 1}
