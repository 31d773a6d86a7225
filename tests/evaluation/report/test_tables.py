"""Objects and detections as arrays."""

import numpy as np
import pytest

from clq.evaluation.report.tables import (
    detection_table,
    object_table,
    rank_in_group,
    rows_by_image,
)

TRUTH = {
    "images": [{"id": 9}, {"id": 4}, {"id": 6}],
    "categories": [{"id": 8, "name": "b"}, {"id": 3, "name": "a"}],
    "annotations": [
        {"image_id": 6, "category_id": 8, "bbox": [1, 2, 3, 4]},
        {"image_id": 9, "category_id": 3, "bbox": [5, 6, 7, 8], "area": 50, "iscrowd": 1},
        {"image_id": 9, "category_id": 8, "bbox": [5, 6, 7, 8], "area": None, "iscrowd": None},
    ],
}


def test_objects():
    objects = object_table(TRUTH)
    assert objects.row.tolist() == [0, 1, 2]
    assert objects.image.tolist() == [2, 0, 0] and objects.label.tolist() == [1, 0, 1]
    assert objects.box.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8]]
    assert objects.area.tolist() == [12, 50, 56]
    assert objects.is_crowd.tolist() == [False, True, False]
    assert object_table({**TRUTH, "annotations": []}).box.shape == (0, 4)


def test_detections_come_best_first_and_at_equal_scores_by_the_id_of_the_image():
    rows = [(9, 3, 0.5), (4, 3, 0.5), (9, 3, 0.7), (9, 8, 0.5), (4, 3, 0.5)]
    found = [
        {"image_id": image_id, "category_id": category, "bbox": [0, 0, 1, 1], "score": score}
        for image_id, category, score in rows
    ]
    table = detection_table(TRUTH, found, limit=9)
    assert table.row.tolist() == [2, 1, 4, 0, 3] and table.score.tolist() == [0.7] + 4 * [0.5]
    assert detection_table(TRUTH, found, limit=1).row.tolist() == [2, 1, 3]
    texts = [{**d, "image_id": str(d["image_id"])} for d in found]
    named = {**TRUTH, "images": [{"id": id_} for id_ in ("9", "4", "6")]}
    assert detection_table(named, texts, limit=9).row.tolist() == [2, 0, 3, 1, 4]


def test_rows_of_each_image():
    rows = rows_by_image(object_table(TRUTH), 3)
    assert [each.tolist() for each in rows] == [[1, 2], [], [0]]
    nothing = object_table({**TRUTH, "annotations": []})
    assert [each.tolist() for each in rows_by_image(nothing, 2)] == [[], []]


def test_ranks_count_in_each_group():
    first, second = np.array([1, 0, 1, 1, 0]), np.array([5, 5, 5, 6, 5])
    assert rank_in_group(first).tolist() == [0, 0, 1, 2, 1]
    assert rank_in_group(first, second).tolist() == [0, 0, 1, 0, 1]
    assert rank_in_group(first[:0]).tolist() == []


@pytest.mark.parametrize(("key", "value"), [("image_id", 7), ("category_id", "x")])
def test_detections_of_other_data_are_rejected(key: str, value: object):
    found = [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 0.5, key: value}]
    with pytest.raises(ValueError, match=f"the {key} {value!r}, which the ground truth lacks"):
        detection_table(TRUTH, found, limit=9)
