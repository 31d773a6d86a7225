"""AP of matches against hotcoco's."""

from typing import Any

import numpy as np
import pytest

from clq.evaluation import evaluate_boxes
from clq.evaluation.report.average_precision import average_precision
from clq.evaluation.report.matches import match_detections, match_run
from reference.made_up_detections import NUM_IMAGES, detections, truth
from reference.made_up_run import made_up_run


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_coco(seed: int):
    content, found = made_up_run(seed=seed)
    expected = evaluate_boxes(content, found)
    run = match_run(content, found)
    ap = average_precision(run.matches)
    assert ap.shape == (10, 3)
    assert ap.mean() == pytest.approx(expected["AP"])
    assert ap.mean(axis=0) == pytest.approx([expected[f"AP-{name}"] for name in "abc"])
    for size in "sml":
        assert np.nanmean(average_precision(run.by_size[size])) == pytest.approx(
            expected[f"AP{size}"]
        )


@pytest.mark.parametrize("num_objects", (3, 10, 29, 49))
def test_a_recall_that_is_a_point_of_recall_reaches_it(num_objects: int):
    """Division rounds: 7 of 100 objects are a recall of 0.07, or a little less."""
    content = truth()
    object_ = content["annotations"][0]
    boxes = [[10 * i, 0, 10, 10] for i in range(num_objects)]
    content["annotations"] = [{**object_, "bbox": box} for box in boxes]
    found = [
        {**object_, "bbox": box, "score": 1 - i / 100}
        for i, box in enumerate([*boxes[: num_objects // 2], [0, 50, 9, 9], *boxes[-1:]])
    ]
    ap = average_precision(match_detections(content, found))[:, 0]
    assert ap == pytest.approx(evaluate_boxes(content, found)["AP-a"])


def test_drawn_images_count_as_often_as_they_are_drawn():
    """Against the same images evaluated as copies, in two draws at once.

    Scores differ: the order of equal ones would depend on the order of the copies.
    """
    content, found = made_up_run()
    found = [{**d, "score": d["score"] + 1e-4 * i} for i, d in enumerate(found)]
    num_images = len(content["images"])
    draws = np.random.default_rng(0).integers(0, num_images, (2, num_images))
    weights = np.stack([np.bincount(draw, minlength=num_images) for draw in draws])
    run = match_run(content, found)
    ap = average_precision(run.matches, weights)
    small = average_precision(run.by_size["s"], weights)
    assert ap.shape == (2, 10, 3)
    for b, draw in enumerate(draws):
        ids = [content["images"][i]["id"] for i in draw]
        images = [{"id": new, "width": 400, "height": 400} for new in range(num_images)]
        copied = {**content, "images": images, "annotations": copies(content["annotations"], ids)}
        expected = evaluate_boxes(copied, copies(found, ids))
        assert np.nanmean(ap[b]) == pytest.approx(expected["AP"])
        assert np.nanmean(small[b]) == pytest.approx(expected["APs"])


def copies(entries: list[dict[str, Any]], ids: list[int]) -> list[dict[str, Any]]:
    """The entries of the drawn images, which count from 0 in the order of drawing."""
    return [
        {**entry, "image_id": new}
        for new, old in enumerate(ids)
        for entry in entries
        if entry["image_id"] == old
    ]


def test_many_draws_are_computed_in_chunks(monkeypatch: pytest.MonkeyPatch):
    matches = match_detections(*made_up_run())
    weights = np.random.default_rng(0).integers(0, 3, (7, len(matches.num_objects)))
    at_once = average_precision(matches, weights)
    monkeypatch.setattr("clq.evaluation.report.average_precision._CHUNK", 1)
    np.testing.assert_array_equal(average_precision(matches, weights), at_once)
    one_by_one = [average_precision(matches, row) for row in weights]
    np.testing.assert_array_equal(one_by_one, at_once)


def test_a_class_without_objects_has_no_average_precision():
    weights = np.zeros(NUM_IMAGES, dtype=int)
    assert np.isnan(average_precision(match_detections(truth(), detections(9)), weights)).all()


def test_nothing_found_is_zero():
    assert (average_precision(match_detections(truth(), [])) == 0).all()
