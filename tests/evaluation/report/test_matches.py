"""Matches against those of hotcoco's evaluation, which works image by image and class by class."""

import numpy as np
import pytest

from clq.evaluation.coco_evaluation import run_coco_eval
from clq.evaluation.report.matches import IOU_THRESHOLDS, SIZES, match_run
from reference.made_up_detections import detections, truth
from reference.made_up_run import made_up_run


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", SIZES)
def test_every_detection_is_matched_as_by_coco(size: str, seed: int):
    content, found = made_up_run(40, seed=seed)
    coco_eval = run_coco_eval(content, found)
    area = tuple(coco_eval.params.areaRng[SIZES.index(size)])
    is_match = np.zeros((len(found), 10), dtype=bool)
    is_ignored = np.zeros_like(is_match)
    num_objects = 0
    for entry in filter(None, coco_eval.evalImgs):
        if tuple(entry["aRng"]) == area:
            rows = np.array(entry["dtIds"], dtype=int) - 1
            shape = 10, len(rows)
            is_match[rows] = np.array(entry["dtMatches"]).reshape(shape).T > 0
            is_ignored[rows] = np.array(entry["dtIgnore"], dtype=bool).reshape(shape).T
            num_objects += len(entry["gtIgnore"]) - sum(entry["gtIgnore"])
    run = match_run(content, found)
    rows = run.detections.row
    rows = rows[~is_ignored[rows].all(axis=1)] if size != "all" else rows
    matches = run.by_size[size]
    assert np.array_equal(matches.is_ignored, is_ignored[rows])
    assert np.array_equal(matches.is_match, (is_match & ~is_ignored)[rows])
    assert matches.num_objects.sum() == num_objects > 0
    assert matches.is_match.any() and matches.is_ignored.any()


def test_the_best_detections_of_an_image_and_class_count():
    content, found = made_up_run()
    run = match_run(content, found, max_detections=1)
    groups = {}
    for row, detection in enumerate(found):
        key = detection["image_id"], detection["category_id"]
        if key not in groups or detection["score"] > found[groups[key]]["score"]:
            groups[key] = row
    assert sorted(run.detections.row) == sorted(groups.values())


def test_a_detection_is_the_last_of_objects_that_overlap_it_equally():
    """As in COCO; the object that is left goes to the next detection."""
    content = truth()
    object_ = content["annotations"][0]
    content["annotations"] = [object_, {**object_, "id": 2}]
    found = [{**object_, "score": 0.4}, {**object_, "score": 0.9}, {**object_, "score": 0.1}]
    run = match_run(content, found)
    assert run.detections.row.tolist() == [1, 0, 2]
    assert run.found.tolist() == [1, 0, -1]


def test_a_crowd_hides_any_number_of_detections_but_no_object():
    content = truth()
    object_ = content["annotations"][0]
    crowd = {**object_, "bbox": [0, 0, 200, 100], "iscrowd": 1}
    content["annotations"] = [crowd, object_]
    found = [{**object_, "score": score} for score in (0.9, 0.8, 0.7)]
    run = match_run(content, found)
    assert run.found.tolist() == [1, 0, 0]
    assert run.matches.is_ignored.tolist() == [[False] * 10, [True] * 10, [True] * 10]
    assert run.matches.num_objects.sum() == 1


def test_an_overlap_of_exactly_a_threshold_is_enough():
    content = truth()
    content["annotations"] = [{**content["annotations"][0], "bbox": [0, 0, 10, 10]}]
    box = {**content["annotations"][0], "bbox": [0, 0, 5, 10], "score": 0.5}
    assert match_run(content, [box]).matches.is_match.tolist() == [[True] + [False] * 9]


def test_the_best_iou_is_with_the_own_class_and_no_crowd():
    box = {"image_id": 2, "category_id": 1, "bbox": [20, 5, 20, 40], "score": 0.6}
    other = {**box, "image_id": 1, "bbox": [200, 5, 9, 9], "score": 0.5}
    assert match_run(truth(), [box, other]).matches.iou == pytest.approx([0.5, 0])
    content = truth()
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 4]
    assert match_run(content, [box]).matches.iou == [0]
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    assert match_run(content, [{**box, "category_id": 4}]).matches.iou == [0]


def test_nothing_can_be_matched():
    run = match_run(truth(), [])
    assert len(run.detections) == 0 and run.matches.is_match.shape == (0, len(IOU_THRESHOLDS))
    content = {**truth(), "annotations": []}
    run = match_run(content, detections(9))
    assert not run.matches.is_match.any() and not run.matches.num_objects.any()
