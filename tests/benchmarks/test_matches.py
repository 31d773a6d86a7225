"""Matches against hotcoco's own numbers, and what a file keeps of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.matches import (
    IOU_THRESHOLDS,
    average_precision,
    best_ious,
    load_matches,
    match_detections,
    save_matches,
)
from clq.evaluation import evaluate_boxes
from reference.made_up_detections import NUM_IMAGES, detections, truth


def with_crowd() -> dict[str, Any]:
    content = truth()
    content["annotations"][4]["iscrowd"] = 1
    return content


@pytest.mark.parametrize("content", (truth(), with_crowd()), ids=("objects", "a crowd"))
@pytest.mark.parametrize("twice", (False, True))
def test_average_precision_is_that_of_coco(content: dict[str, Any], twice: bool):
    found = detections(14) + (detections(9, seed=1) if twice else [])
    expected = evaluate_boxes(content, found)
    ap = average_precision(match_detections(content, found))
    assert ap.shape == (10, 2)
    assert ap.mean() == pytest.approx(expected["AP"])
    assert ap[0].mean() == pytest.approx(expected["AP50"])
    assert ap[5].mean() == pytest.approx(expected["AP75"]) and IOU_THRESHOLDS[5] == 0.75
    assert ap.mean(axis=0) == pytest.approx([expected["AP-a"], expected["AP-b"]])


def test_a_drawn_image_counts_as_often_as_it_is_drawn():
    """Against the same images evaluated as copies."""
    drawn = np.random.default_rng(0).integers(1, NUM_IMAGES + 1, NUM_IMAGES)
    images = [{"id": new, "width": 300, "height": 100} for new in range(1, NUM_IMAGES + 1)]
    found = detections(14) + detections(9, seed=1)
    content = {**truth(), "images": images, "annotations": copies(truth()["annotations"], drawn)}
    expected = evaluate_boxes(content, copies(found, drawn))["AP"]
    weights = np.bincount(drawn - 1, minlength=NUM_IMAGES)
    assert average_precision(match_detections(truth(), found), weights).mean() == pytest.approx(
        expected
    )


def copies(entries: list[dict[str, Any]], drawn: np.ndarray) -> list[dict[str, Any]]:
    """The entries of the drawn images, which count from 1 in the order of drawing."""
    return [
        {**entry, "image_id": new}
        for new, old in enumerate(drawn.tolist(), start=1)
        for entry in entries
        if entry["image_id"] == old
    ]


def test_a_class_without_objects_has_no_average_precision():
    weights = np.zeros(NUM_IMAGES, dtype=int)
    assert np.isnan(average_precision(match_detections(truth(), detections(9)), weights)).all()


def test_nothing_found_is_zero():
    assert (average_precision(match_detections(truth(), [])) == 0).all()


def test_the_best_iou_is_with_the_own_class_and_no_crowd():
    box = {"image_id": 2, "category_id": 1, "bbox": [20, 5, 20, 40], "score": 0.5}
    other = {**box, "image_id": 1, "bbox": [200, 5, 9, 9]}
    assert best_ious(truth(), [box, other]) == pytest.approx([0.5, 0])
    content = truth()
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 4]
    assert best_ious(content, [box]) == [0]
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    assert best_ious(content, [{**box, "category_id": 4}]) == [0]


def test_a_file_keeps_everything(tmp_path: Path):
    matches = match_detections(with_crowd(), detections(14))
    save_matches(tmp_path / "a.npz", matches)
    loaded = load_matches(tmp_path / "a.npz")
    for name, value in vars(matches).items():
        assert np.array_equal(value, getattr(loaded, name)), name
    assert matches.is_match.any() and matches.is_ignored.any()
    assert (np.diff(matches.score) <= 0).all()
