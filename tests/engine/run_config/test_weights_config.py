"""Settings that weights imply, and when the command line overrides them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from clq.checkpoint import WeightsFile, write_detector
from clq.config import get_clq_cfg
from clq.config.serialize import dump_config
from clq.engine import build_config, setup
from clq.engine.run_config.weights_config import (
    _check_classes,
    match_input_format,
    read_configured_weights,
)
from reference.mmdet_style import FAMILY, mmdet_state, random_detector, small_config
from reference.tiny import CLASS_NAMES, CONFIG, Pair, TinyData, options, parse

pytestmark = pytest.mark.usefixtures("cpu_only")
THREE = {"MODEL.CLQ.NUM_CLASSES": 3}
CAFFE = "a = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=False)\nb = dict(style='caffe')"
MSRA = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"


def detector_file(folder: Path, names: list[str] = CLASS_NAMES, **keys: Any) -> Path:
    cfg = small_config({**THREE, **keys})
    path = folder / "detector.safetensors"
    write_detector(path, random_detector(cfg).state_dict(), dump_config(cfg), names)
    return path


def mmdet_file(folder: Path, text: str = "") -> Path:
    path = folder / "theirs.pth"
    state = mmdet_state(random_detector(small_config({**THREE, **FAMILY["gfl"]})), "gfl")
    torch.save({"meta": {"config": text, "CLASSES": tuple(CLASS_NAMES)}, "state_dict": state}, path)
    return path


def build(*arguments: object, **keys: Any) -> CfgNode:
    return build_config(parse([*map(str, arguments), *options(keys)]))


def evaluation(data: Pair) -> list[str]:
    return ["--eval-only", "--val", *map(str, data)]


@pytest.mark.parametrize("write", [detector_file, mmdet_file])
def test_a_checkpoint_takes_the_place_of_a_config(write: Any, tiny_data: TinyData, tmp_path: Path):
    path = write(tmp_path)
    cfg = build(*evaluation(tiny_data.val), "MODEL.WEIGHTS", path, "MODEL.CLQ.NMS_THRESH_TEST", 0.4)
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.CLQ.NUM_CONVS) == ("CLQ", 2)
    assert cfg.MODEL.CLQ.QUALITY == ("none" if write is mmdet_file else "localization")
    assert cfg.MODEL.CLQ.NMS_THRESH_TEST == 0.4, "the command line goes before"
    assert (cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST) == (str(path), ("val",))


def test_a_config_goes_before_the_one_inside(tiny_data: TinyData, tmp_path: Path):
    path = detector_file(tmp_path)
    arguments = ["--config-file", CONFIG, *evaluation(tiny_data.val), "MODEL.WEIGHTS", path]
    with pytest.raises(ValueError, match="MODEL.CLQ.NUM_GROUPS is 32, but .* was trained with 8: "):
        build(*arguments)
    assert build(*arguments, "MODEL.CLQ.NUM_GROUPS", 8).MODEL.CLQ.NUM_CONVS == 4


def log_of(folder: Path, *arguments: object) -> str:
    setup(parse([*map(str, arguments), "OUTPUT_DIR", str(folder)]))
    return (folder / "log.txt").read_text()


def test_keys_that_differ_from_those_inside(tiny_data: TinyData, tmp_path: Path):
    path = detector_file(tmp_path)
    arguments = [*evaluation(tiny_data.val), "MODEL.WEIGHTS", path]
    log = log_of(tmp_path / "a", *arguments, "MODEL.CLQ.NMS_THRESH_TEST", 0.4)
    assert f"{path} was trained with: MODEL.CLQ.NMS_THRESH_TEST 0.4 for 0.6." in log
    assert "was trained with" not in log_of(tmp_path / "b", *arguments)


def test_what_a_checkpoint_of_mmdetection_leaves_open(tiny_data: TinyData, tmp_path: Path):
    path = mmdet_file(tmp_path)
    log = log_of(tmp_path / "a", "--train", *tiny_data.train, "MODEL.WEIGHTS", path)
    assert "does not state the groups of its GroupNorm; took 8, give" in log
    assert f"{path} tells no schedule" in log and "--config-file sets one" in log
    arguments = [*evaluation(tiny_data.val), "MODEL.WEIGHTS", path, "MODEL.CLQ.NUM_GROUPS", 16]
    log = log_of(tmp_path / "b", *arguments)
    assert "does not state" not in log and "schedule" not in log


def test_pixels_of_caffe2_are_not_known(tiny_data: TinyData, tmp_path: Path):
    path = tmp_path / "local.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": np.ones((64, 3, 7, 7), np.float32)}))
    arguments = ["--config-file", CONFIG, "--train", *tiny_data.train, "MODEL.WEIGHTS", path]
    log = log_of(tmp_path / "a", *arguments, "INPUT.FORMAT", "BGR")
    assert f"{path} is of Caffe2 and does not state its pixels; set MODEL.PIXEL_MEAN, " in log


def test_the_pixels_of_an_address_with_a_prefix(tiny_data: TinyData, tmp_path: Path):
    path = mmdet_file(tmp_path, CAFFE)
    for weights in (f"file://{path}", f"{path}?x=1"):
        arguments = ["--config-file", CONFIG, *evaluation(tiny_data.val), "MODEL.WEIGHTS", weights]
        assert build(*arguments).MODEL.PIXEL_MEAN == [1.0, 2.0, 3.0]


def test_other_classes_than_the_data_are_refused(tiny_data: TinyData, tmp_path: Path):
    path = detector_file(tmp_path, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"knows the classes \['a', 'b', 'c'\], but .*'val'"):
        build(*evaluation(tiny_data.val), "MODEL.WEIGHTS", path)
    arguments = ["--config-file", CONFIG, *evaluation(tiny_data.val), "MODEL.WEIGHTS", path]
    with pytest.raises(ValueError, match="knows the classes"):
        build(*arguments, "MODEL.CLQ.NUM_GROUPS", 8)
    training = build("--train", *tiny_data.train, "MODEL.WEIGHTS", path)
    assert training.MODEL.CLQ.NUM_CLASSES == 3


def test_without_names_the_number_must_agree():
    MetadataCatalog.get("two").set(thing_classes=["a", "b"])
    three, two = (
        WeightsFile("detector", {"head.cls_score.weight": torch.ones(k, 1)}) for k in (3, 2)
    )
    with pytest.raises(ValueError, match="x.pth knows 3 classes, but the data set 'two' has 2"):
        _check_classes(three, "x.pth", "two")
    _check_classes(two, "x.pth", "two")
    _check_classes(WeightsFile("detector", {}), "x.pth", "two")


def test_weights_without_a_config_need_one(tiny_data: TinyData, tmp_path: Path):
    torch.save({"layer1.0.conv1.weight": torch.ones(1)}, tmp_path / "trunk.pth")
    bare = {"model": random_detector(small_config()).state_dict()}
    torch.save(bare, tmp_path / "bare.pth")
    for weights, message in (
        (tmp_path / "trunk.pth", "trunk.pth is a backbone, .*--config-file"),
        (MSRA, "R-50.pkl is a backbone, .*--config-file"),
        (tmp_path / "bare.pth", "bare.pth has no configuration inside; .*--config-file"),
        (tmp_path / "nowhere.pth", "nowhere.pth do not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            build(*evaluation(tiny_data.val), "MODEL.WEIGHTS", weights)
    with pytest.raises(ValueError, match="--config-file, or a checkpoint with one by MODEL.WEI"):
        build(*evaluation(tiny_data.val))
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(ValueError, match="text.pth is not a checkpoint"):
        build(*evaluation(tiny_data.val), "MODEL.WEIGHTS", tmp_path / "text.pth")


def test_code_in_the_weights_needs_the_key(tmp_path: Path):
    torch.save({"model": {}, "folder": tmp_path}, tmp_path / "code.pth")
    opts = ["MODEL.WEIGHTS", str(tmp_path / "code.pth")]
    with pytest.raises(ValueError, match="MODEL.TRUST_WEIGHTS True"):
        read_configured_weights(get_clq_cfg(), parse(opts))
    with pytest.raises(ValueError, match="holds no tensors"):
        read_configured_weights(get_clq_cfg(), parse([*opts, "MODEL.TRUST_WEIGHTS", "True"]))
    cfg = get_clq_cfg()
    cfg.MODEL.TRUST_WEIGHTS = True
    with pytest.raises(ValueError, match="holds no tensors"):
        read_configured_weights(cfg, parse(opts))


def test_weights_that_are_not_at_hand_say_nothing(tmp_path: Path):
    cfg, args = get_clq_cfg(), parse(["--config-file", str(CONFIG)])
    for weights in ("", str(tmp_path / "nowhere.pth"), "https://a.org/weights.pth", MSRA):
        cfg.MODEL.WEIGHTS = weights
        assert read_configured_weights(cfg, args) is None


# ---------------------------------------------------------------------------------------- pixels


def test_pixels_of_a_known_origin(tiny_data: TinyData, tmp_path: Path):
    arguments = ["--config-file", CONFIG, "--train", *tiny_data.train]
    keys = {"MODEL.WEIGHTS": MSRA, "OUTPUT_DIR": tmp_path}
    cfg = setup(parse([*map(str, arguments), *options({**keys, "MODEL.PIXEL_STD": "[2,2,2]"})]))
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN) == ("BGR", [103.53, 116.28, 123.675])
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1
    assert list(cfg.MODEL.PIXEL_STD) == [2, 2, 2], "the command line goes before"
    log = (tmp_path / "log.txt").read_text()
    assert log.count(f"Set to what {MSRA} was trained with: INPUT.FORMAT BGR, ") == 1


def test_pixels_that_fit_already_are_not_spoken_of():
    cfg = small_config()
    cfg.MODEL.WEIGHTS = "clq://timm/resnext101_32x4d.gluon_in1k"
    before = cfg.dump()
    assert match_input_format(cfg, None, given=()) == []
    assert cfg.dump() == before


def test_pixels_of_a_detector(tiny_data: TinyData, tmp_path: Path):
    path = mmdet_file(tmp_path, CAFFE)
    arguments = ["--config-file", CONFIG, *evaluation(tiny_data.val), "MODEL.WEIGHTS", path]
    cfg = build(*arguments)
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN) == ("BGR", [1.0, 2.0, 3.0])
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1
    assert build(*arguments, "INPUT.FORMAT", "RGB").INPUT.FORMAT == "RGB"


def test_a_key_below_a_value_is_refused(tiny_data: TinyData):
    arguments = ["--config-file", CONFIG, *evaluation(tiny_data.val), "MODEL.CLQ.ALPHA.X", 1]
    with pytest.raises(ValueError, match="no key MODEL.CLQ.ALPHA.X; did you mean MODEL.CLQ.ALPHA"):
        build(*arguments)
