"""A config of a stranger decides the detector, within bounds, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from clq.config import check_config, get_clq_cfg
from clq.config.read_yaml import check_config_file, parse_yaml
from clq.config.serialize import parse_config

NESTED = "a: " + "{a: " * 5000 + "1" + "}" * 5000
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)
MERGED = "a: &a {x: 1, y: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n"
    for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "key", ["DATALOADER.NUM_WORKERS", "WANDB.ENABLED", "VIS_PERIOD", "MODEL.COMPILE.ENABLED"]
)
def test_a_file_decides_nothing_of_this_machine(key: str):
    value: Any = 40
    for part in reversed(key.split(".")):
        value = {part: value}
    assert parse_config(yaml.safe_dump(value)) == get_clq_cfg()


@pytest.mark.parametrize("text", [NESTED, BOMB, MERGED, "a: &a {b: *a}", "a: " + "1:" * 9999])
def test_yaml_that_grows_is_refused(text: str):
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)
    with pytest.raises(ValueError, match="not valid yaml"):
        parse_config(text)


def test_plain_aliases_stay():
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a")["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_circle_of_files_is_refused(length: int, tmp_path: Path):
    for k in range(length):
        (tmp_path / f"{k}.yaml").write_text(f"_BASE_: {(k + 1) % length}.yaml")
    with pytest.raises(ValueError, match="which is based on it"):
        check_config_file(str(tmp_path / "0.yaml"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.MIN_SIZE_TEST", 10**9),
        ("INPUT.MAX_SIZE_TEST", 0),
        ("MODEL.CLQ.NUM_CONVS", 10**7),
        ("MODEL.FPN.OUT_CHANNELS", 10**9),
        ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0]),
        ("MODEL.PIXEL_MEAN", [float("nan")] * 3),
        ("INPUT.FORMAT", "../../x"),
        ("TEST.DETECTIONS_PER_IMAGE", 10**9),
    ],
)
def test_values_that_no_detector_has(key: str, value: Any):
    cfg = get_clq_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_clq_resnet_fpn_backbone"
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=f"^{key} is "):
        check_config(cfg)
