"""Columns of a COCO json."""

from typing import Any

import numpy as np
import pytest

from clq.data.coco.table import CocoTable, evenly_spaced
from clq.data.coco.validate import check_content

BOXES = [
    [10, 10, 20, 20],
    [-5, 30, 10, 20],  # partly outside
    [60, 0, 5, 5],  # begins at the right border
    [10, 10, 0, 5],
    [10, 10, 5, -5],
    [1.5, 2, 4, 4],  # a crowd
    [3, 3, 4, 4],  # without a polygon
]


@pytest.fixture
def table() -> CocoTable:
    annotations: list[dict[str, Any]] = [
        {"id": 100 + k, "image_id": 7, "category_id": 2, "bbox": box} for k, box in enumerate(BOXES)
    ]
    annotations[5]["iscrowd"] = 1
    annotations[6]["segmentation"] = [[1, 1, 2, 2]]
    image = {"id": 7, "file_name": "a\n.png", "width": 60, "height": 40}
    categories = [{"id": 2, "name": "x"}]
    table = check_content({"images": [image], "annotations": annotations, "categories": categories})
    assert table.errors == []
    return table


def test_what_trains(table: CocoTable):
    assert table.is_trained_on().tolist() == [True, True, False, False, False, False, True]
    assert table.objects.tolist() == [0, 1, 2, 3, 4, 6]


def test_corners_are_clipped(table: CocoTable):
    corners = table.corners()
    np.testing.assert_array_equal(corners[0], [10, 10, 30, 30])
    np.testing.assert_array_equal(corners[1], [0, 30, 5, 40])


def test_examples_name_image_annotation_and_value(table: CocoTable):
    assert str(table.image_example(0, "is odd")) == r"image 'a\n.png' is odd"
    assert str(table.box_example(5)) == (r"annotation 105 of 'a\n.png' has the bbox [1.5, 2, 4, 4]")


def test_evenly_spaced():
    assert evenly_spaced(3, None).tolist() == evenly_spaced(3, 5).tolist() == [0, 1, 2]
    assert evenly_spaced(101, 3).tolist() == [0, 50, 100]
    assert evenly_spaced(0, None).tolist() == evenly_spaced(5, 0).tolist() == []
    many = evenly_spaced(1000, 999)
    assert len(set(many.tolist())) == 999 and many[-1] == 999
