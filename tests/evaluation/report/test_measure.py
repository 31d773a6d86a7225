"""The whole dict of a run: its metrics against COCO's, and every kind of data it must bear."""

import json

import numpy as np
import pytest

from clq.evaluation import METRIC_NAMES, evaluate_boxes
from clq.evaluation.report import measure
from clq.evaluation.report.matches import match_run
from clq.evaluation.report.measure import ranked_by_iou
from reference.made_up_detections import detections
from reference.made_up_detections import truth as made_up_truth
from reference.made_up_run import made_up_run


def test_metrics_are_those_of_the_evaluation():
    content, found = made_up_run()
    expected = evaluate_boxes(content, found)
    report = measure(content, found, num_draws=20)
    assert list(report["metrics"]) == list(METRIC_NAMES)
    for name, metric in report["metrics"].items():
        assert metric["value"] == pytest.approx(expected[name]), name
        assert metric["low"] < metric["value"] < metric["high"]
    assert report["class_names"] == ["a", "b", "c"]
    for row in report["ap_by_class"]:
        assert row["AP"] == pytest.approx(expected[f"AP-{row['name']}"])
        assert row["low"] < row["AP"] < row["high"]
    aps = {row["iou"]: row["AP"] for row in report["ap_by_iou"]}
    assert list(aps) == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert [aps[0.5], aps[0.75]] == pytest.approx([expected["AP50"], expected["AP75"]])
    assert sum(aps.values()) / 10 == pytest.approx(expected["AP"])


def test_what_is_evaluated_is_counted():
    content, found = made_up_run()
    crowds = sum(annotation["iscrowd"] for annotation in content["annotations"])
    report = measure(content, found, num_draws=2)
    assert report["counts"] == {
        "images": 12,
        "objects": len(content["annotations"]) - crowds,
        "crowds": crowds,
        "detections": len(found),
        "classes": 3,
    }
    for key in ("objects", "detections"):
        assert sum(row[key] for row in report["ap_by_class"]) == report["counts"][key]


def test_a_limit_above_that_of_coco_counts_more_detections():
    content, found = made_up_run()
    many = [{**found[0], "score": 0.001 * i} for i in range(1, 150)]
    counts = {
        limit: measure(content, many, max_detections=limit, num_draws=2)["counts"]["detections"]
        for limit in (1, 100, 120)
    }
    assert counts == {1: 100, 100: 100, 120: 120}


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": []},
        {"categories": [{"id": id_, "name": "all"} for id_ in (2, 5, 7)]},
        {"categories": [{"id": id_, "name": f"class {id_}"} for id_ in range(40)]},
    ],
    ids=("no objects", "names twice", "40 classes"),
)
@pytest.mark.parametrize("any_found", (False, True), ids=("nothing found", "found"))
def test_json_can_hold_the_numbers_of_any_data(change: dict, any_found: bool):
    content, found = made_up_run()
    content |= change
    report = measure(content, found if any_found else [], num_draws=5)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    num_classes = len(content["categories"])
    names = report["class_names"]
    assert len(names) == num_classes == len(set(names) - {"all"})
    assert list(report["thresholds"]) == ["all", *names]
    assert len(report["curves"]) == 1 + min(num_classes, 20)
    if not content["annotations"]:
        assert report["metrics"]["AP"] == {"value": None, "low": None, "high": None}


def test_ids_of_images_may_be_texts():
    content, found = made_up_run()
    ids = sorted(image["id"] for image in content["images"])
    named = {
        key: [{**row, id_key: f"image {ids.index(row[id_key])}"} for row in content[key]]
        for key, id_key in (("images", "id"), ("annotations", "image_id"))
    }
    named["images"].sort(key=lambda image: ids.index(int(image["file_name"][:-4])))
    renamed = [{**d, "image_id": f"image {ids.index(d['image_id'])}"} for d in found]
    report = measure({**content, **named}, renamed, num_draws=2)
    assert report["metrics"]["AP"]["value"] == measure(content, found)["metrics"]["AP"]["value"]


def test_the_same_seed_gives_the_same_report():
    first, again, other = (measure(*made_up_run(), seed=s, num_draws=9) for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("any_found", (False, True), ids=("nothing found", "found"))
def test_a_single_class(any_found: bool):
    content, found = made_up_run()
    content["categories"] = content["categories"][:1]
    rows, found = (
        [row for row in each if row["category_id"] == 7] for each in (content["annotations"], found)
    )
    report = measure({**content, "annotations": rows}, found if any_found else [], num_draws=5)
    ap = report["metrics"]["AP"]["value"]
    assert report["ap_by_class"][0]["AP"] == ap and (ap > 0) == any_found
    assert np.shape(report["confusion"]["matrix"]) == (2, 2)
    assert report["thresholds"]["all"] == report["thresholds"]["c"]
    assert (report["thresholds"]["all"] is None) != any_found


def test_the_confusion_is_at_the_best_threshold_of_all_classes():
    report = measure(*made_up_run(), num_draws=5)
    assert report["confusion"]["score"] == report["thresholds"]["all"]["score"] > 0
    content, _ = made_up_run()
    assert measure(content, [], num_draws=5)["confusion"]["score"] == 0


def test_headroom_is_the_share_of_the_best_ranking():
    """Three boxes of an object, IoU 0.5, 0.8 and 1 by falling score: the best ranks last."""
    box = [0.0, 0.0, 10.0, 10.0]
    object_ = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box}
    truth = {
        "images": [{"id": 1, "width": 50, "height": 50}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [object_],
    }
    found = [
        {**object_, "bbox": [0.0, 0.0, width, 10.0], "score": score}
        for width, score in ((5.0, 0.9), (8.0, 0.8), (10.0, 0.7))
    ]
    headroom = measure(truth, found, num_draws=2)["calibration"]["headroom"]
    # First at IoU 0.5, second up to 0.8, third above: precision 1, 1/2 six times, 1/3 three times.
    assert headroom["AP"] == pytest.approx(10 * (1 + 6 / 2 + 3 / 3))
    assert headroom["AP_by_iou"] == pytest.approx(100)
    assert headroom["realised"] == pytest.approx(0.5)


def test_ranking_by_the_true_iou_is_the_best_ranking():
    """Two boxes of some objects, one better than the other, in any order."""
    rng = np.random.default_rng(0)
    found = [*detections(30), *detections(5, seed=1), *detections(15, seed=2)]
    own = [{**d, "score": float(rng.random())} for d in found]
    best = ranked_by_iou(own, match_run(made_up_truth(), own))
    assert [d["bbox"] for d in best] == [d["bbox"] for d in own]
    aps = [evaluate_boxes(made_up_truth(), each)["AP"] for each in (own, best)]
    assert aps[0] + 5 < aps[1] < 100


def test_what_the_limit_leaves_out_is_left_out():
    own = [*detections(30), *detections(5, seed=1)]
    assert (
        len(ranked_by_iou(own, match_run(made_up_truth(), own, max_detections=1))) == len(own) / 2
    )
