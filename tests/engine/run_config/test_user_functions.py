"""A user's function is imported for a training that its user asks for, and never else."""

import sys
from pathlib import Path
from typing import Any

import pytest

import clq
from clq.data import user_augmentation
from clq.engine import RunOptions, build_config, setup
from clq.engine.evaluated_run import find_evaluation
from clq.engine.run import run_in_process
from clq.engine.run_config.folder_lock import unlock_folders
from clq.evaluation.report.training import describe_training
from reference.tiny import KEYS, TinyData, command_line, options, parse

pytestmark = pytest.mark.usefixtures("cpu_only")
NAME = "of_a_stranger:augment"
CODE = """
import pathlib
pathlib.Path("was_imported").touch()

def augment(image, boxes, classes):
    pathlib.Path("was_called").touch()
    return image, boxes, classes
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The current folder, with a module that leaves a file when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_augmentation, "_imported", {})
    (tmp_path / "of_a_stranger.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("of_a_stranger", None)
    unlock_folders()


@pytest.fixture
def trained(folder: Path, tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output of a training with the function, which this process has forgotten since."""
    keys = {"INPUT.AUGMENTATIONS": f"('mosaic', '{NAME}')", "SOLVER.MAX_ITER": 1}
    run_in_process(parse(command_line(tiny_data, folder / "run", keys=keys)))
    for mark in ("was_imported", "was_called"):
        (folder / mark).unlink()
    sys.modules.pop("of_a_stranger")
    monkeypatch.setattr(user_augmentation, "_imported", {})
    return folder / "run"


def test_evaluation_prediction_and_report_import_nothing(trained: Path, tiny_data: TinyData):
    weights = str(trained / "model_final.safetensors")
    image = next(tiny_data.val.images.iterdir())
    clq.load(weights, "cpu").predict(str(image))
    clq.evaluate(weights, val=tiny_data.val, output_dir=trained / "evaluation")
    cfg = find_evaluation(str(trained), [], trained / "scratch")
    section = describe_training(cfg, trained / "metrics.json")
    assert section.labels and not section.images
    assert section.notes[-1] == (
        "The first training images can't be shown: INPUT.AUGMENTATIONS has "
        f"'{NAME}', which only a training run imports."
    )
    assert not Path("was_imported").exists()


def test_a_training_imports_what_its_user_names_and_not_what_a_checkpoint_does(
    trained: Path, tiny_data: TinyData
):
    weights = str(trained / "model_final.safetensors")
    own = {key: value for key, value in KEYS.items() if not key.startswith("MODEL")}

    def run(output: str, **keys: Any) -> RunOptions:
        pairs = ["--train", *map(str, tiny_data.train), "--val", *map(str, tiny_data.val)]
        all_keys = {**own, "OUTPUT_DIR": trained.parent / output, "MODEL.DEVICE": "cpu", **keys}
        return parse([*pairs, "--weights", weights, *options(all_keys)])

    with pytest.raises(ValueError) as error:
        setup(run("a"))
    advice = f"give INPUT.AUGMENTATIONS \"('mosaic', '{NAME}')\" if you trust it"
    assert NAME in str(error.value) and advice in str(error.value)
    assert not Path("was_imported").exists() and not (trained.parent / "a").exists()

    assert setup(run("b", **{"INPUT.AUGMENTATIONS": "()"})).INPUT.AUGMENTATIONS == ()
    assert not Path("was_imported").exists()
    setup(run("c", **{"INPUT.AUGMENTATIONS": f"('{NAME}',)"}))
    assert Path("was_imported").exists()


def test_a_function_that_is_missing_ends_a_training_before_it_starts(
    folder: Path, tiny_data: TinyData
):
    keys = {"INPUT.AUGMENTATIONS": "('of_a_stranger:augmnt',)"}
    with pytest.raises(ValueError, match="'of_a_stranger:augmnt', which can't be imported"):
        setup(parse(command_line(tiny_data, folder / "run", keys=keys)))
    assert not (folder / "run").exists()
    build_config(parse(command_line(tiny_data, folder / "run", "--eval-only", keys=keys)))
