"""Flags given twice: nothing that was asked for is dropped or overridden in silence."""

import shutil
from pathlib import Path

import pytest

from clq.cli import check, predict
from clq.engine import build_config, setup
from clq.engine.run_config.merge import choices_made
from reference.tiny import CONFIG, TinyData, command_line, options, parse, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")


def test_several_data_sets(tiny_data: TinyData, tmp_path: Path):
    others = [write_pair(tmp_path, name, num_images=2, seed=5) for name in ("a", "b")]
    more = ["--train", *map(str, others[0]), "--val", *map(str, others[1])]
    cfg = setup(parse(command_line(tiny_data, tmp_path / "out", *more)))
    assert cfg.DATASETS.TRAIN == ("train", "train_2") and cfg.DATASETS.TEST == ("val", "val_2")
    assert cfg.MODEL.CLQ.NUM_CLASSES == 3


def test_a_json_needs_its_images(tiny_data: TinyData, tmp_path: Path):
    path = Path(shutil.copy(tiny_data.train.json_file, tmp_path))
    keys = {"DATASETS.TRAIN_JSON": (str(path),)}
    with pytest.raises(ValueError, match="is taken for a COCO json.*name their folder behind it"):
        build_config(parse(command_line(None, tmp_path, keys=keys)))


@pytest.mark.parametrize(
    "flags",
    [["--config-file", "a", "--config", "b"], ["--num-gpus=1", "--num-gpus", "2"]],
    ids=["config", "num-gpus"],
)
def test_a_flag_is_given_once(flags: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leaving:
        parse(flags)
    assert leaving.value.code == 2 and "is given twice; give one value" in capsys.readouterr().err
    assert parse(flags[-2:]) == parse(flags[-2:])


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (check.main, ["a.json", "a", "--val", "b.json", "b", "--val", "c.json", "c"]),
        (predict.main, ["--weights", "a.pth", "--weights", "b.pth"]),
    ],
    ids=["check", "predict"],
)
def test_other_commands_too(main, arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2 and "is given twice" in capsys.readouterr().err


def test_the_last_of_two_values_is_used_and_told():
    twice = options({"SOLVER.MAX_ITER": 2, "SEED": 1})
    run = parse(["--config", str(CONFIG), *twice, "SOLVER.MAX_ITER", "3", "SEED", "1"])
    assert build_config(run).SOLVER.MAX_ITER == 3
    assert choices_made(run) == ["SOLVER.MAX_ITER is given twice: 3 is used, 2 is not."]


@pytest.mark.parametrize("key", ["DATASETS.TEST", "DATASETS.TRAIN", "DATASETS.TRAIN_JSON"])
def test_data_is_named_in_one_way(key: str, tiny_data: TinyData, tmp_path: Path):
    keys = {key: ("coco_2017_val", "x")}
    with pytest.raises(ValueError, match="leave one of them out|give one of them"):
        build_config(parse(command_line(tiny_data, tmp_path, keys=keys)))


def test_empty_images_are_filtered_where_that_is_asked_for(tiny_data: TinyData, tmp_path: Path):
    keys = {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": True}
    cfg = build_config(parse(command_line(tiny_data, tmp_path, keys=keys)))
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
