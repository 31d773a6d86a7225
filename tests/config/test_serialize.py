"""A configuration survives being put into a checkpoint, without what belongs to one machine."""

import logging

import pytest
import yaml

from clq.config import get_clq_cfg
from clq.config.serialize import dump_config, parse_config
from reference.mmdet_style import small_config


def test_the_model_comes_back_and_the_run_does_not():
    cfg = small_config({"OUTPUT_DIR": "somewhere", "SOLVER.MAX_ITER": 7})
    cfg.DATASETS.VAL_JSON = ("val.json", "images")
    cfg.MODEL.WEIGHTS = "start.pth"
    found = parse_config(dump_config(cfg))
    for key in ("CLQ", "RESNETS", "FPN", "PIXEL_MEAN"):
        assert found.MODEL[key] == cfg.MODEL[key]
    assert found.SOLVER == cfg.SOLVER and found.INPUT == cfg.INPUT
    defaults = get_clq_cfg()
    assert found.DATASETS == defaults.DATASETS and found.OUTPUT_DIR == defaults.OUTPUT_DIR
    assert found.MODEL.DEVICE == defaults.MODEL.DEVICE
    assert found.MODEL.WEIGHTS == defaults.MODEL.WEIGHTS
    assert "somewhere" not in dump_config(cfg)


def test_keys_of_another_release(caplog: pytest.LogCaptureFixture):
    content = yaml.safe_load(dump_config(small_config()))
    content["SOLVER"]["OF_TOMORROW"] = 1
    with caplog.at_level(logging.INFO):
        assert parse_config(yaml.safe_dump(content)).MODEL.CLQ.NUM_CLASSES == 5
    assert "keys unknown here: SOLVER.OF_TOMORROW." in caplog.text
    content["MODEL"]["CLQ"]["OF_TOMORROW"] = 1
    with pytest.raises(ValueError, match="MODEL.CLQ.OF_TOMORROW, which this CLQ does not know"):
        parse_config(yaml.safe_dump(content))


def test_a_key_that_was_removed_is_left_out(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        cfg = parse_config("SOLVER: {ACCUMULATION: {MICRO_BATCHES: 2, NORMALIZERS: accumulated}}")
    assert cfg.SOLVER.ACCUMULATION == {"MICRO_BATCHES": 2}
    assert "keys unknown here: SOLVER.ACCUMULATION.NORMALIZERS." in caplog.text


@pytest.mark.parametrize("text", ["", "a: [", "text"])
def test_no_yaml(text: str):
    with pytest.raises(ValueError, match="not valid yaml"):
        parse_config(text)


def test_an_older_file_does_not_decide_what_belongs_to_one_run():
    """Files of before had the layout inside, and its default of then."""
    cfg = parse_config("MODEL: {CHANNELS_LAST: false, FAST_INFERENCE: true, DEVICE: cuda:7}")
    defaults = get_clq_cfg().MODEL
    assert cfg.MODEL.CHANNELS_LAST is defaults.CHANNELS_LAST is True
    assert cfg.MODEL.FAST_INFERENCE is False and cfg.MODEL.DEVICE == defaults.DEVICE
