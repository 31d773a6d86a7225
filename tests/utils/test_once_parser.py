"""Flags that take annotations and, where these do not tell it, an image folder."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from clq.cli.check import main as check
from clq.cli.report import main as report
from clq.config import get_clq_cfg
from reference.tiny import parse


@pytest.mark.parametrize(
    ("arguments", "train", "opts"),
    [
        ("--train a.json images", ["a.json", "images"], []),
        ("--train data.yaml", ["data.yaml", ""], []),
        ("--train=data.yaml", ["data.yaml", ""], []),
        ("--tr data.yaml images/", ["data.yaml", "images/"], []),
        ("--train data.yaml SOLVER.MAX_ITER 10", ["data.yaml", ""], ["SOLVER.MAX_ITER", "10"]),
        ("--train voc SEED 3", ["voc", ""], ["SEED", "3"]),
        ("--train voc SOLVR.MAX 3", ["voc", ""], ["SOLVR.MAX", "3"]),
        ("--train voc images SEED 3", ["voc", "images"], ["SEED", "3"]),
        ("--train voc --resume SEED 3", ["voc", ""], ["SEED", "3"]),
        ("--train voc IMG", ["voc", "IMG"], []),
        ("--train voc IMAGES SEED 3", ["voc", "IMAGES"], ["SEED", "3"]),
        ("--train a.yaml --train b.json c", ["a.yaml", "", "b.json", "c"], []),
    ],
)
def test_train(arguments: str, train: list[str], opts: list[str]):
    options = parse(arguments.split())
    assert (options.train, options.opts) == (train, opts) and options.val == []


@pytest.mark.parametrize("key", [key for key in get_clq_cfg() if key.isupper()])
def test_a_top_level_key_is_no_folder(key: str):
    value = get_clq_cfg()[key]
    expected = [key, "3"] if not isinstance(value, CfgNode) else []
    options = parse(["--train", "voc", key, *(["3"] if expected else [])])
    assert options.opts == expected and options.train == ["voc", "" if expected else key]


def test_what_exists_is_a_folder_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "IMAGES").mkdir()
    (tmp_path / "b.yaml").touch()
    assert parse(["--val", "a.json", "IMAGES"]).val == ["a.json", "IMAGES"]
    assert parse(["--val", "a.json", "b.yaml", "1"]).val == ["a.json", ""]


def test_a_flag_without_data(capsys: pytest.CaptureFixture[str]):
    for arguments in (["--train"], ["--train", "--resume"]):
        with pytest.raises(SystemExit):
            parse(arguments)
        assert "error: --train needs a value: a COCO json and its images" in capsys.readouterr().err


@pytest.mark.parametrize("command", [check, report])
def test_a_flag_before_the_data(command: Callable, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        command(["--val", "data", "run"])
    assert stop.value.code == 2
    assert re.search("required: [A-Z_]+; they go before --val\n", capsys.readouterr().err)


def test_check_takes_one_argument_too(tmp_path: Path):
    with pytest.raises(SystemExit, match=f"error: {tmp_path} has neither a data.yaml"):
        check([str(tmp_path), "--val", str(tmp_path), "--images", "3"])
