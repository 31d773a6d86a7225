"""Two runs on the same data against hotcoco's comparison, and the pairing of their interval."""

import json

import hotcoco
import numpy as np
import pytest

from clq.evaluation import METRIC_NAMES, evaluate_boxes
from clq.evaluation.coco_evaluation import run_coco_eval
from clq.evaluation.report import compare
from reference.made_up_detections import NUM_IMAGES, detections, truth
from reference.made_up_run import made_up_run


def test_differences_are_those_of_hotcoco():
    content, found = made_up_run(40)
    fewer = [detection for detection in found if detection["score"] > 0.3]
    evaluations = [run_coco_eval(content, each) for each in (found, fewer)]
    expected = hotcoco.compare(*evaluations)
    comparison = compare(content, found, fewer, num_draws=100)
    assert list(comparison["metrics"]) == list(METRIC_NAMES)
    for name, metric in comparison["metrics"].items():
        assert metric["a"] == pytest.approx(100 * expected["metrics_a"][name]), name
        assert metric["b"] == pytest.approx(100 * expected["metrics_b"][name]), name
        assert metric["delta"] == pytest.approx(100 * expected["deltas"][name]), name
        assert metric["low"] <= metric["delta"] <= metric["high"], name
    aps = [evaluate_boxes(content, each) for each in (found, fewer)]
    for row in comparison["ap_by_class"]:
        values = [ap[f"AP-{row['name']}"] for ap in aps]
        assert [row["a"], row["b"]] == pytest.approx(values)
        assert row["delta"] == row["b"] - row["a"] and row["low"] < row["delta"] < row["high"]


def test_images_are_drawn_for_both_runs_alike():
    """One run lacks the detections of half the images; the other lacks one image more.

    AR is the mean of the images' own, so that the difference of each draw is how often it holds
    that one image: 0 to 3 times, mostly, in steps of 1 / 12 of all objects.
    """
    found = detections(0)
    first = [d for d in found if d["image_id"] % 2]
    second = [d for d in first if d["image_id"] != 1]
    metric = compare(truth(), first, second)["metrics"]["AR100"]
    step = 100 / NUM_IMAGES
    assert metric["delta"] == pytest.approx(-step)
    assert [metric["low"], metric["high"]] == pytest.approx([-3 * step, 0], abs=0.1 * step)


def test_a_run_does_not_differ_from_itself():
    comparison = compare(*made_up_run(), made_up_run()[1], num_draws=20)
    rows = [*comparison["metrics"].values(), *comparison["ap_by_class"]]
    assert {row[key] for row in rows for key in ("delta", "low", "high")} == {0}
    assert comparison["images"] == []


def test_the_image_that_lost_its_detections_changed_most():
    content, found = made_up_run(40)
    image = content["images"][7]
    rest = [detection for detection in found if detection["image_id"] != image["id"]]
    images = compare(content, found, rest, num_draws=2)["images"]
    assert len(images) == 12
    assert images[0]["image_id"] == image["id"] and images[0]["file_name"] == image["file_name"]
    others = [i["id"] for i in content["images"] if i["id"] != image["id"]]
    for key, each in (("loss_a", found), ("loss_b", rest)):
        gain = evaluate_boxes(content, each, img_ids=others)["AP"]
        assert images[0][key] == pytest.approx(gain - evaluate_boxes(content, each)["AP"])
    assert images[0]["delta"] == images[0]["loss_b"] - images[0]["loss_a"] > 0
    deltas = [abs(row["delta"]) for row in images]
    assert deltas == sorted(deltas, reverse=True)


@pytest.mark.parametrize("any_objects", (False, True))
def test_runs_without_detections_can_be_compared(any_objects: bool):
    content, found = made_up_run()
    content["annotations"] = content["annotations"] if any_objects else []
    comparison = compare(content, [], found, num_draws=5)
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison
    assert comparison["draws"] == 5
    metric = comparison["metrics"]["AP"]
    assert metric["a"] == (0 if any_objects else None)
    assert np.isfinite(metric["delta"]) if any_objects else metric["delta"] is None
