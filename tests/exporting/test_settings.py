"""Settings of a configuration."""

from dataclasses import fields

import pytest

from clq.exporting.settings import settings_of
from clq.runtime.metadata import Settings
from reference.members import member_config

NAMES = ("cat", "dog", "cow")
# By the field that must take it; no two values are alike.
KEYS = {
    "channel_order": ("INPUT.FORMAT", "BGR"),
    "bit_depth": ("INPUT.BIT_DEPTH", 12),
    "min_size": ("INPUT.MIN_SIZE_TEST", 640),
    "max_size": ("INPUT.MAX_SIZE_TEST", 1201),
    "score_threshold": ("MODEL.CLQ.SCORE_THRESH_TEST", 0.07),
    "nms_threshold": ("MODEL.CLQ.NMS_THRESH_TEST", 0.55),
    "topk": ("MODEL.CLQ.TOPK_CANDIDATES_TEST", 321),
    "candidate_rule": ("MODEL.CLQ.CANDIDATE_RULE_TEST", "anchors"),
    "max_detections": ("TEST.DETECTIONS_PER_IMAGE", 77),
    "augment": ("TEST.AUG.ENABLED", True),
    "augment_min_sizes": ("TEST.AUG.MIN_SIZES", (400, 500)),
    "augment_max_size": ("TEST.AUG.MAX_SIZE", 1500),
    "augment_flip": ("TEST.AUG.FLIP", False),
    "augment_merge": ("TEST.AUG.MERGE", "vote"),
    "tile": ("TEST.TILE", 512),
    "tile_overlap": ("TEST.TILE_OVERLAP", 0.3),
    "tile_whole": ("TEST.TILE_WHOLE", True),
}


GIVEN = {"size_divisor": 64, "strides": (8, 16)}


@pytest.mark.parametrize("name", KEYS)
def test_each_setting_is_that_of_its_key(name):
    key, value = KEYS[name]
    cfg = member_config("clq")
    assert getattr(settings_of(cfg, NAMES, **GIVEN), name) != value
    cfg.merge_from_list([key, value])
    assert getattr(settings_of(cfg, NAMES, **GIVEN), name) == value


def test_names_and_geometry_are_given_and_no_other_setting_is():
    settings = settings_of(member_config("clq"), list(NAMES), **GIVEN)
    assert settings.class_names == NAMES
    assert (settings.size_divisor, settings.strides) == tuple(GIVEN.values())
    assert {f.name for f in fields(Settings)} == {*KEYS, *GIVEN, "class_names"}
