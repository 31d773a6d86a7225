"""Precision, recall and best F1 against counting at each threshold."""

from typing import Any

import numpy as np
import pytest

from clq.evaluation.coco_evaluation import run_coco_eval
from clq.evaluation.report.matches import match_detections
from clq.evaluation.report.operating_points import (
    GRID,
    best_threshold,
    count,
    curve,
    short_threshold,
)
from reference.made_up_run import made_up_run


def counted(content: dict[str, Any], found: list[dict[str, Any]], threshold: float) -> np.ndarray:
    """Objects found, detections kept and objects there are of each class, by evaluation again."""
    kept = [detection for detection in found if detection["score"] >= threshold]
    numbers = np.zeros((3, 3), dtype=int)
    for entry in filter(None, run_coco_eval(content, kept).evalImgs):
        if tuple(entry["aRng"]) == (0, 1e10):
            k = [2, 5, 7].index(entry["category_id"])
            is_ignored = np.array(entry["dtIgnore"][0], dtype=bool)
            is_found = np.array(entry["dtMatches"][0]) > 0
            numbers[k] += [
                (is_found & ~is_ignored).sum(),
                (~is_ignored).sum(),
                len(entry["gtIgnore"]) - sum(entry["gtIgnore"]),
            ]
    return numbers


def ratio(numerator: int, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def test_curves_are_those_of_evaluations_with_fewer_detections():
    content, found = made_up_run()
    matches = match_detections(content, found)
    curves = [curve(count(matches, k)) for k in range(3)] + [curve(count(matches))]
    assert curves[0]["score"] == GRID.tolist() and len(GRID) == 101
    for i in (0, 33, 50, 97, 100):
        numbers = counted(content, found, GRID[i])
        for each, (hits, kept, objects) in zip(curves, [*numbers, numbers.sum(axis=0)]):
            assert each["precision"][i] == ratio(hits, kept)
            assert each["recall"][i] == ratio(hits, objects)
            assert each["f1"][i] == ratio(2 * hits, kept + objects)


@pytest.mark.parametrize("label", (None, 0, 1, 2))
@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_the_best_of_all_scores(label: int | None, seed: int):
    content, found = made_up_run(seed=seed)
    rows = slice(None) if label is None else slice(label, label + 1)
    scores = sorted({detection["score"] for detection in found})
    f1 = {}
    for score in scores:
        hits, kept, objects = counted(content, found, score)[rows].sum(axis=0)
        f1[score] = 2 * hits / (kept + objects)
    best = best_threshold(count(match_detections(content, found), label))
    assert best is not None
    assert best["f1"] == pytest.approx(max(f1.values()))
    hits, kept, objects = counted(content, found, best["score"])[rows].sum(axis=0)
    assert best["f1"] == 2 * hits / (kept + objects)  # at the threshold as it is told
    assert best["precision"] == hits / kept and best["recall"] == hits / objects


def test_f1_is_that_of_hotcoco():
    """Its F1 is of the interpolated curve at 101 recalls: never less than at a real threshold."""
    content, found = made_up_run(30, with_crowds=False)
    coco_eval = run_coco_eval(content, found)
    matches = match_detections(content, found)
    ours = np.mean([count(matches, k).f1().max() for k in range(3)])
    assert ours == pytest.approx(coco_eval.f_scores()["F1_50"], abs=0.01)


def test_there_is_no_threshold_where_nothing_is_found():
    content, found = made_up_run()
    far = [{**detection, "bbox": [900, 900, 5, 5]} for detection in found]
    assert best_threshold(count(match_detections(content, far))) is None
    assert best_threshold(count(match_detections(content, []))) is None
    empty = curve(count(match_detections(content, [])))
    assert set(empty["precision"]) == {None} and set(empty["recall"]) == {0}


@pytest.mark.parametrize(
    ("below", "score", "expected"),
    [
        (0.2, 0.73218, 0.73),
        (0.731, 0.73218, 0.732),
        (0.7321, 0.73218, 0.73218),
        (0.73217, 0.73218, 0.73218),
        (-np.inf, 0.004, 0.0),
        (0.5, 0.5000001192092896, 0.5000001),
        (0.3, np.nextafter(0.3, 1), np.nextafter(0.3, 1)),
    ],
)
def test_a_threshold_has_as_few_digits_as_it_needs(below: float, score: float, expected: float):
    assert short_threshold(below, score) == expected
