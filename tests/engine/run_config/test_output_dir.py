"""Output-directory checks before a training run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from clq.checkpoint import CLQCheckpointer
from clq.config import get_clq_cfg
from clq.config.serialize import dump_config
from clq.engine.run_config.output_dir import (
    check_inputs_stay,
    check_output_folder,
    check_writable,
)
from reference.spoiling import largest_file
from reference.tiny import CONFIG

NAMES = ["a", "b"]


def config(folder: Path, *opts: Any) -> CfgNode:
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(["OUTPUT_DIR", str(folder), *opts])
    return cfg


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the checkpoint of a training."""
    model = torch.nn.Module()
    model.head = torch.nn.Module()
    model.head.cls_score = torch.nn.Conv2d(1, 2, 3)
    about = {"config": dump_config(config(tmp_path)), "class_names": NAMES}
    CLQCheckpointer(model, str(tmp_path), metadata=about).save("model_0000003", iteration=3)
    return tmp_path


def test_a_new_folder(tmp_path: Path):
    cfg = config(tmp_path / "new")
    assert check_output_folder(cfg, NAMES, resume=False) == []
    (note,) = check_output_folder(cfg, NAMES, resume=True)
    assert note is not None and "no checkpoint" in note and "starts anew" in note
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["model_final.safetensors", "model_best.safetensors"])
def test_a_finished_detector_is_not_overwritten(name: str, tmp_path: Path):
    """Also where the checkpoints beside it were deleted for their size."""
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"{name} is of an earlier training, .* another OUTPUT"):
        check_output_folder(config(tmp_path), NAMES, resume=False)


@pytest.fixture
def own_json():
    yield "own_json"
    MetadataCatalog.pop("own_json", None)


@pytest.mark.parametrize(
    ("name", "is_written"),
    [
        ("results.json", True),
        ("metrics.json", True),
        ("inference/val/coco_instances_results.json", True),
        ("ema/results.json", True),
        ("train.json", False),
        ("data/results.json", False),
        ("../results.json", False),
    ],
)
def test_a_json_is_not_written_over(name: str, is_written: bool, own_json: str, tmp_path: Path):
    (tmp_path / "output").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "output")
    MetadataCatalog.get(own_json).json_file = str(tmp_path / "link" / name)
    cfg = config(tmp_path / "output", "DATASETS.TRAIN", (), "DATASETS.TEST", (own_json,))
    for eval_only in (True, False):
        if not is_written:
            check_inputs_stay(cfg, eval_only=eval_only, resume=False)
            continue
        with pytest.raises(ValueError, match=f"{name} lies in OUTPUT_DIR .* another OUTPUT_DIR"):
            check_inputs_stay(cfg, eval_only=eval_only, resume=False)


def test_weights_are_not_written_over_unless_they_are_only_evaluated(tmp_path: Path):
    cfg = config(tmp_path, "MODEL.WEIGHTS", str(tmp_path / "model_final.safetensors"))
    for options in ({"eval_only": True, "resume": False}, {"eval_only": False, "resume": True}):
        check_inputs_stay(cfg, **options)
    with pytest.raises(ValueError, match="model_final.safetensors lies in OUTPUT_DIR"):
        check_inputs_stay(cfg, eval_only=False, resume=False)


def test_checkpoints_are_not_overwritten(folder: Path):
    with pytest.raises(ValueError, match="model_0000003.pth; go on from them with --resume"):
        check_output_folder(config(folder), NAMES, resume=False)


@pytest.mark.parametrize(
    "opts",
    [
        (),
        ("SOLVER.MAX_ITER", 9, "SOLVER.STEPS", (5,), "TEST.EVAL_PERIOD", 3),
        ("MODEL.WEIGHTS", "x.pth", "MODEL.DEVICE", "cpu", "MODEL.CLQ.NMS_THRESH_TEST", 0.4),
        ("DATALOADER.NUM_WORKERS", 7),
        ("MODEL.CHANNELS_LAST", False),
    ],
)
def test_what_may_change(opts: tuple, folder: Path):
    (note,) = check_output_folder(config(folder, *opts), NAMES, resume=True)
    assert note == f"Resuming from {folder / 'model_0000003.pth'}."


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.CLQ.ALPHA", 0.5),
        ("MODEL.FPN.OUT_CHANNELS", 128),
        ("SOLVER.IMS_PER_BATCH", 8),
        ("SOLVER.BASE_LR", 0.02),
        ("SEED", 4),
    ],
)
def test_what_may_not(key: str, value: Any, folder: Path):
    with pytest.raises(ValueError, match=f"^{key} is {value}, but .*model_0000003.pth was trained"):
        check_output_folder(config(folder, key, value), NAMES, resume=True)


def test_other_classes_are_refused(folder: Path):
    with pytest.raises(ValueError, match=r"has learned the classes \['a', 'b'\], but the data has"):
        check_output_folder(config(folder), ["a", "c"], resume=True)


def test_a_checkpoint_without_a_configuration_is_refused(tmp_path: Path):
    CLQCheckpointer(torch.nn.Conv2d(1, 2, 3), str(tmp_path)).save("model_0000003", iteration=3)
    with pytest.raises(ValueError, match="model_0000003.pth has no configuration .* by --weights"):
        check_output_folder(config(tmp_path), NAMES, resume=True)


def test_a_folder_that_can_be_written_to(tmp_path: Path):
    check_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="OUTPUT_DIR .* can't be written to .*; name another"):
        check_writable(tmp_path / "file" / "output")


def test_a_full_disk_is_no_place_for_a_training(tmp_path: Path):
    with largest_file(100_000), pytest.raises(OSError, match="can't be written to .*; name anoth"):
        check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
