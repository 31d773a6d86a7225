"""Which values of a json can be used."""

import math
from typing import Any

import numpy as np
import pytest

from clq.data.coco.schema import (
    OPTIONAL_KEYS,
    are_ids,
    box_array,
    is_size,
    is_text,
    lacks_polygon,
)


def test_ids():
    values = [0, 5, -1, 2**63 - 1, 2**63, True, 1.0, "1", None, [1]]
    assert are_ids(values).tolist() == [True, True, False, True] + [False] * 6
    assert are_ids([-1, -3], lowest=-2).tolist() == [True, False]


def test_texts_and_sizes():
    assert is_text("") and is_text("é") and not is_text("\ud800") and not is_text(3)
    assert is_size((1, 2**31 - 1))
    for side in (0, -1, 2**31, 1.0, 1e308, True, "1", None):
        assert not is_size((5, side)) and not is_size((side, 5))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "1234",
        [],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [1, 2, 3, True],
        [1, 2, 3, "4"],
        [[1], 2, 3, 4],
        [1, 2, math.nan, 4],
        [1, -math.inf, 3, 4],
        [1, 2, 3, 2**62],
        [1, 2, 3, -1e300],
        [10**400, 2, 3, 4],
    ],
)
def test_boxes_that_are_none(value: Any):
    boxes = box_array([[1, 2.5, 3, 4], value, [5, 6, -7, 8]])
    np.testing.assert_array_equal(boxes[[0, 2]], [[1, 2.5, 3, 4], [5, 6, -7, 8]])
    assert np.isnan(boxes[1]).all()


def test_no_box():
    assert box_array([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("iscrowd", [0, 1, False, True], [None, 2, -1, "0", "1", [], math.nan]),
        ("area", [None, 0, 2.5], [-1, math.nan, math.inf, "3", True, [3]]),
        (
            "segmentation",
            [
                None,
                [],
                {},
                [[1, 2, 3, 4, 5, 6.5]],
                [[1]],
                {"counts": "abc", "size": [4, 5]},
                {"counts": [3, 17], "size": [4, 5]},
            ],
            [
                "abc",
                3,
                [3],
                ["abc"],
                [["a"]],
                [{}],
                {"counts": "abc"},
                {"size": [4, 5]},
                {"counts": [-1], "size": [4, 5]},
                {"counts": [1], "size": [4]},
                {"counts": [1], "size": [4, 2.5]},
            ],
        ),
        ("keypoints", [None, [], [1, 2.5, 2]], [3, "abc", [None], [[1]]]),
    ],
)
def test_keys_that_may_be_absent(key: str, good: list, bad: list):
    assert [value for value in good if not OPTIONAL_KEYS[key].allows(value)] == []
    assert [value for value in bad if OPTIONAL_KEYS[key].allows(value)] == []


def test_segmentations_without_polygon():
    assert lacks_polygon([[1, 2, 3, 4]]) and lacks_polygon([[1, 2, 3, 4, 5, 6, 7], []])
    assert not lacks_polygon([[1, 2], [1, 2, 3, 4, 5, 6]])
    assert not lacks_polygon([]) and not lacks_polygon(None)
    assert not lacks_polygon({"counts": "abc", "size": [4, 5]})
