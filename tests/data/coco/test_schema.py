"""Rules for the values of a COCO json."""

import math
from typing import Any

import pytest

from clq.data.coco.schema import (
    ANNOTATION_RULES,
    CATEGORY_RULE,
    IMAGE_RULE,
    reference_rule,
)

RULES = {rule.key: rule for rule in ANNOTATION_RULES}
NOT_INTEGERS = [2**63, True, 1.0, "1", None, [1]]
IMAGE = {"id": 0, "file_name": "a.png", "width": 1, "height": 2**31 - 1}


def test_categories():
    for id_ in (0, 5, 2**63 - 1):
        assert CATEGORY_RULE.is_valid({"id": id_, "name": "é"})
    for id_ in (-1, *NOT_INTEGERS):
        assert not CATEGORY_RULE.is_valid({"id": id_, "name": "a"})
    for name in ("\ud800", 3, None):
        assert not CATEGORY_RULE.is_valid({"id": 0, "name": name})
    assert not CATEGORY_RULE.is_valid({}) and CATEGORY_RULE.is_valid({"id": 0, "name": ""})


def test_images():
    assert IMAGE_RULE.is_valid(IMAGE) and not IMAGE_RULE.is_valid({})
    for id_ in (-1, *NOT_INTEGERS):
        assert not IMAGE_RULE.is_valid({**IMAGE, "id": id_})
    for name in ("", 3, None):
        assert not IMAGE_RULE.is_valid({**IMAGE, "file_name": name})
    for side in (0, -1, 2**31, 1.0, 1e308, True, "1", None):
        assert not IMAGE_RULE.is_valid({**IMAGE, "width": side})
        assert not IMAGE_RULE.is_valid({**IMAGE, "height": side})


def test_references():
    rule = reference_rule("image_id", {3: 0, 1: 1})
    assert rule.key == "image_id" and rule.kind == "unknown_image_id"
    assert rule.is_valid(3) and rule.is_valid(1)
    assert not any(map(rule.is_valid, [0, True, 1.0, "1", None, [1], {}]))


@pytest.mark.parametrize(
    ("key", "valid", "invalid"),
    [
        ("id", [0, -1, -(2**63), 2**63 - 1], [-(2**63) - 1, *NOT_INTEGERS]),
        (
            "bbox",
            [[1, 2.5, 3, 4], [5, 6, -7, 8], [0, 0, 0, 2**62 - 1]],
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
        ),
        ("iscrowd", [0, 1, False, True], [None, 2, -1, "0", "1", [], math.nan]),
        ("area", [None, 0, 2.5], [-1, math.nan, math.inf, "3", True, [3]]),
        ("ignore", [0, False, 0.0], [1, True, None, "", [], math.nan]),
    ],
)
def test_annotations(key: str, valid: list[Any], invalid: list[Any]):
    rule = RULES[key]
    assert rule.values([{key: value} for value in valid]) == valid
    assert [value for value in valid if not rule.is_valid(value)] == []
    assert [value for value in invalid if rule.is_valid(value)] == []
    assert all(map(rule.is_valid, rule.values([{}]))) == (key not in ("id", "bbox"))
