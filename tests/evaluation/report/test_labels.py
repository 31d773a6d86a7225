"""Statistics of labels on a few of them."""

import numpy as np

from clq.evaluation.report.labels import count_labels

TRUTH = {
    "images": [{"id": 1}, {"id": 2}, {"id": 3}],
    "categories": [{"id": 9, "name": "b"}, {"id": 4, "name": "a"}, {"id": 5, "name": "b"}],
    "annotations": [
        {"image_id": 1, "category_id": 9, "bbox": [0, 0, 4, 9]},
        {"image_id": 1, "category_id": 4, "bbox": [0, 0, 10, 10], "iscrowd": 0},
        {"image_id": 2, "category_id": 4, "bbox": [0, 0, 50, 50], "iscrowd": 1},
        {"image_id": 1, "category_id": 9, "bbox": [0, 0, -3, 5]},
    ],
}


def test_counts_and_sizes():
    labels = count_labels("val", TRUTH)
    assert (labels.name, labels.num_images, labels.num_objects) == ("val", 3, 3)
    assert labels.counts == {"a": 1, "b (5)": 0, "b (9)": 2}
    np.testing.assert_array_equal(labels.sides, [6, 10, 0])


def test_data_without_annotations_has_no_objects():
    labels = count_labels("val", {key: TRUTH[key] for key in ("images", "categories")})
    assert labels.num_objects == 0 and not any(labels.counts.values())
