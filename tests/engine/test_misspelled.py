"""The key that may have been meant."""

import pytest

from clq.config import get_clq_cfg
from clq.engine.misspelled import with_nearest_key


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("MODEL.CLQ.NUM_CLASES", "MODEL.CLQ.NUM_CLASSES"),
        ("IMS_PER_BATCH", "SOLVER.IMS_PER_BATCH"),
    ],
)
def test_the_nearest_key_is_named(key: str, nearest: str):
    for message in (f"Non-existent key: {key}", f"Non-existent config key: {key}"):
        text = with_nearest_key(message, get_clq_cfg())
        assert text == f"there is no key {key}; did you mean {nearest}?"


def test_where_nothing_is_near_nothing_is_named():
    text = with_nearest_key("Non-existent key: QWERTZ.ASDF", get_clq_cfg())
    assert text == "there is no key QWERTZ.ASDF."


def test_other_messages_stay():
    assert with_nearest_key("something else", get_clq_cfg()) == "something else"
