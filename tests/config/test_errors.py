"""Keys and values that Detectron2's configuration refuses, told in one sentence."""

from pathlib import Path
from typing import Any

import pytest

from clq.config import get_clq_cfg
from clq.config.errors import friendly_config_errors, suggest_key


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("MODEL.CLQ.NUM_CLASES", "MODEL.CLQ.NUM_CLASSES"),
        ("IMS_PER_BATCH", "SOLVER.IMS_PER_BATCH"),
        ("NUMBERS.NUM_WORKERS", "DATALOADER.NUM_WORKERS"),
    ],
)
def test_the_nearest_key_is_named(key: str, nearest: str):
    for message in (f"Non-existent key: {key}", f"Non-existent config key: {key}"):
        text = suggest_key(message, get_clq_cfg())
        assert text == f"there is no key {key}; did you mean {nearest}?"


@pytest.mark.parametrize("value", ["micro_batch", "accumulated"])
def test_a_removed_key_is_rejected_with_the_reason(value: str, tmp_path: Path):
    key, file = "SOLVER.ACCUMULATION.NORMALIZERS", tmp_path / "a.yaml"
    file.write_text(f"SOLVER: {{ACCUMULATION: {{NORMALIZERS: {value}}}}}")
    sentence = f"{key} was removed, since"
    assert refusal_of(key, value).startswith(sentence)
    cfg = get_clq_cfg()
    with pytest.raises(ValueError) as error, friendly_config_errors(cfg, file=str(file)):
        cfg.merge_from_file(str(file))
    assert str(error.value).startswith(f"{file}: {sentence}") and "\n" not in str(error.value)


def test_where_nothing_is_near_nothing_is_named():
    text = suggest_key("Non-existent key: QWERTZ.ASDF", get_clq_cfg())
    assert text == "there is no key QWERTZ.ASDF."


def test_other_messages_stay():
    assert suggest_key("something else", get_clq_cfg()) == "something else"


def refusal_of(*opts: Any) -> str:
    cfg = get_clq_cfg()
    with pytest.raises(ValueError) as error, friendly_config_errors(cfg, keys=opts[::2]):
        cfg.merge_from_list(list(opts))
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("SEED", "a b", "SEED is set to a b; it takes a value of type int, such as -1."),
        ("VIS_PERIOD", 0.5, "VIS_PERIOD is set to 0.5; it takes a value of type int, such as 0."),
        ("CUDNN_BENCHMARK", 1, "CUDNN_BENCHMARK is set to 1; it takes a value of type bool, such "),
        ("OUTPUT_DIR", "[1, 2]", "OUTPUT_DIR is set to [1, 2]; it takes a value of type str, such"),
        ("MODEL", 1, "MODEL is a section of keys, which takes no value; set one of MODEL.*."),
        ("SEED.A.B", 1, "there is no key SEED.A.B"),
        ("_BASE_", "a.yaml", "The reserved key '_BASE_' can only be used in files!"),
    ],
)
def test_a_value_that_does_not_fit(key: str, value: Any, sentence: str):
    text = refusal_of("SOLVER.MAX_ITER", 7, key, value)
    assert text.startswith(sentence) and "\n" not in text


def test_a_long_value_is_shortened():
    text = refusal_of("SEED", " ".join(["word"] * 100))
    shown = text.removeprefix("SEED is set to ").partition(";")[0]
    assert shown.startswith("word word") and shown.endswith(" ...") and len(shown) <= 60


def test_what_fits_is_merged():
    cfg = get_clq_cfg()
    with friendly_config_errors(cfg, keys=["SEED"]):
        cfg.merge_from_list(["SEED", "5"])
    assert cfg.SEED == 5


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path):
    for file, ending in (
        ("a.yaml", "a.yaml can't be read (No such file or directory)."),
        ("b.yaml", f"a.yaml can't be read (No such file or directory), but {tmp_path}/b.yaml is"),
    ):
        with pytest.raises(OSError) as error:
            with friendly_config_errors(get_clq_cfg(), file=str(tmp_path / file)):
                (tmp_path / "a.yaml").read_text()
        assert str(error.value).startswith(f"{tmp_path}/{ending}")
