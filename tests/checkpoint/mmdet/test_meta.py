"""Metadata in checkpoints of either major release of mmdetection."""

from typing import Any

import pytest

from clq.checkpoint.mmdet.meta import (
    read_class_names,
    read_num_groups,
    read_pixel_settings,
)

RELEASE_2 = """
model = dict(
    type='GFL',
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN', requires_grad=False),
                  style='caffe'),
    bbox_head=dict(norm_cfg=dict(type='GN', num_groups=16, requires_grad=True)))
img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
train_pipeline = [dict(type='Normalize', **img_norm_cfg)]
"""
RELEASE_3 = """
model = dict(
    backbone=dict(style='pytorch', type='ResNet'),
    data_preprocessor=dict(
        bgr_to_rgb=True, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
"""


def test_pixels_of_release_2():
    assert read_pixel_settings({"config": RELEASE_2}) == {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
    }
    assert read_num_groups({"config": RELEASE_2}) == 16


def test_pixels_of_release_3():
    assert read_pixel_settings({"cfg": RELEASE_3}) == {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
    }
    assert read_num_groups({"cfg": RELEASE_3}) is None


def test_dicts_in_braces():
    text = "norm = {'type': 'GN', 'num_groups': 4}\nbackbone = {'style': 'caffe', **norm}"
    assert read_num_groups({"config": text}) == 4
    assert read_pixel_settings({"config": text}) == {"MODEL.RESNETS.STRIDE_IN_1X1": True}


def test_an_initialization_is_no_pixel_setting():
    """Nor are three numbers where a dict of pixels is there as well."""
    init = "init_cfg = dict(type='Normal', mean=0.0, std=0.01)\n"
    assert read_pixel_settings({"config": init}) == {}
    other = "\nother = dict(mean=[0, 0, 0], std=[9, 9, 9])"
    found = read_pixel_settings({"config": init + RELEASE_2 + other})
    assert found["MODEL.PIXEL_STD"] == [1.0, 1.0, 1.0]
    assert read_pixel_settings({"config": other})["MODEL.PIXEL_STD"] == [9.0, 9.0, 9.0]
    assert read_pixel_settings({"config": "a = dict(mean=[1, 2], std=[1, 2])"}) == {}
    assert read_pixel_settings({"config": "a = dict(mean=[1, 2, 'x'], std=[1, 2, 3])"}) == {}


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("neck = dict(n=dict(type='GN', num_groups=8))\n" + RELEASE_2, 16),
        (RELEASE_2 + "neck = dict(n=dict(type='GN', num_groups=8))", 16),
        ("a = dict(type='GN', num_groups=8)\nb = dict(type='GN', num_groups=8)", 8),
        ("a = dict(type='GN', num_groups=8)\nb = dict(type='GN', num_groups=4)", None),
        ("a = dict(type='GN', num_groups='8')", None),
        ("a = dict(type='GN', num_groups=0)", None),
        ("a = dict(type='GN')", None),
    ],
)
def test_the_groups_are_those_of_the_head(text: str, groups: int | None):
    assert read_num_groups({"config": text}) == groups


@pytest.mark.parametrize("text", ["", "# omitted", "no python (", None, 3, "x = dict(style=f(1))"])
def test_nothing_is_stated(text: Any):
    assert read_pixel_settings({"config": text}) == {}
    assert read_num_groups({"config": text}) is None


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ("a", "b")}, ["a", "b"]),
        ({"dataset_meta": {"classes": ["a", "b"], "palette": []}}, ["a", "b"]),
        ({"dataset_meta": {"CLASSES": ("a",)}}, ["a"]),
        ({"CLASSES": "tree"}, ["tree"]),
        ({}, None),
    ],
)
def test_class_names(meta: dict[str, Any], names: list[str] | None):
    assert read_class_names(meta) == names
