"""The data report, and what a training is told of it."""

import copy
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from clq.config import get_clq_cfg
from clq.data import CocoFiles, register_json_datasets
from clq.data.coco import dialect, validate
from clq.data_report import DataReport, check_training_data, report_data
from clq.data_report.anchor_coverage import DetectorScale
from clq.data_report.report import ReportScope
from reference.tiny import CONFIG, KEYS, TinyData, options

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(options(KEYS))
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    return cfg


@pytest.fixture
def files(tiny_data: TinyData, tmp_path: Path) -> CocoFiles:
    """A copy of the training data that a test may change."""
    folder = tmp_path / "images"
    shutil.copytree(tiny_data.train.images, folder)
    return CocoFiles(Path(shutil.copy(tiny_data.train.json_file, tmp_path)), folder)


def change_json(files: CocoFiles, change: Change) -> None:
    content = json.loads(files.json_file.read_text())
    change(content)
    files.json_file.write_text(json.dumps(content))


def report(files: CocoFiles, cfg: CfgNode, **arguments: Any) -> DataReport:
    return report_data(files, cfg, DetectorScale.from_config(cfg), **arguments)


def kinds(findings: list) -> list[str]:
    return [finding.kind for finding in findings]


# ----------------------------------------------------------------------------------- the report


def test_sound_data(files: CocoFiles, cfg: CfgNode):
    found = report(files, cfg)
    assert found.errors == [] and found.files == files
    assert (found.class_names, found.class_counts) == (["bar", "block", "dot"], [3, 3, 3])
    assert (found.num_images, found.num_read, found.num_matched) == (4, 4, 3)
    assert "images_without_objects" in kinds(found.warnings)


def test_faults_come_first(files: CocoFiles, cfg: CfgNode):
    (files.image_root / "0.png").unlink()
    change_json(files, lambda content: content["annotations"][0].update(bbox=[1, 2, 3]))
    found = report(files, cfg)
    assert kinds(found.errors) == ["bad_box", "missing_image"]
    assert found.findings == found.errors + found.warnings
    assert (found.num_read, found.num_matched) == (3, 2)
    assert found.class_counts == [3, 3, 2]


def test_scope(files: CocoFiles, cfg: CfgNode):
    found = report(files, cfg, scope=ReportScope(num_images=2, num_matched=1))
    assert (found.num_images, found.num_read, found.num_matched) == (4, 2, 1)
    cut = files.image_root / "0.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    assert kinds(report(files, cfg).errors) == ["unreadable_image"]
    assert report(files, cfg, scope=ReportScope(decodes=False)).errors == []


@pytest.mark.parametrize("for_training", [True, False])
def test_data_without_an_object(for_training: bool, files: CocoFiles, cfg: CfgNode):
    change_json(files, lambda content: content.update(annotations=[]))
    found = report(files, cfg, for_training=for_training)
    (finding,) = [finding for finding in found.findings if finding.kind == "no_object"]
    assert finding.is_error is for_training
    purpose = "train on" if for_training else "find"
    assert str(finding.examples[0]) == f"it has no object to {purpose}"
    # Errors in all annotations say so already.
    change_json(files, lambda content: content.update(annotations=[{}]))
    assert "no_object" not in kinds(report(files, cfg).findings)


def test_classes_must_be_those_of_the_training(files: CocoFiles, cfg: CfgNode):
    names = ["bar", "block", "dot"]
    assert report(files, cfg, train_classes=names).errors == []
    (error,) = report(files, cfg, train_classes=[*names, "line"]).errors
    assert error.kind == "class_mismatch"
    assert "only in training ['line'], only in evaluation []" in str(error.examples[0])
    files.json_file.write_text("{")
    assert kinds(report(files, cfg, train_classes=names).findings) == ["bad_json"]


# ------------------------------------------------------------------------- the start of a training


def configured(cfg: CfgNode, train: CocoFiles, val: Any = None) -> CfgNode:
    cfg.DATASETS.TRAIN_JSON = tuple(map(str, train))
    cfg.DATASETS.VAL_JSON = tuple(map(str, val)) if val else ()
    register_json_datasets(cfg)
    return cfg


def refusal(cfg: CfgNode) -> str:
    with pytest.raises(ValueError) as error:
        check_training_data(cfg)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_notes_are_lines_of_the_training_data(files: CocoFiles, cfg: CfgNode, tiny_data: TinyData):
    box = {"image_id": 10, "category_id": 3, "bbox": [4, 4, 0, 9]}
    change_json(files, lambda content: content["annotations"].append({"id": 900, **box}))
    notes = check_training_data(configured(cfg, files, tiny_data.val))
    assert "train: images without objects: 1 of 4 (25.0%); train as negatives." in notes
    assert any(note.startswith("train: boxes without a positive width") for note in notes)
    assert all(note.startswith("train: ") and "\n" not in note for note in notes)


def test_small_shares_are_not_worth_a_line(files: CocoFiles, cfg: CfgNode):
    def change(content: dict[str, Any]) -> None:
        big = [{**content["annotations"][1], "id": 1000 + k} for k in range(200)]
        tiny = {**content["annotations"][1], "id": 2000, "bbox": [5, 5, 3, 3]}
        content["annotations"] += [*big, tiny]

    change_json(files, change)
    cfg = configured(cfg, files)
    assert "small_objects" in kinds(report(files, cfg).warnings)
    assert not [note for note in check_training_data(cfg) if "finest stride" in note]


def test_a_fault_stops_a_training_in_one_sentence(files: CocoFiles, cfg: CfgNode):
    (files.image_root / "2.png").unlink()
    command = f"`python tools/check_data.py {files.json_file} {files.image_root}` shows all"
    assert refusal(configured(cfg, files)) == (
        f"image 2.png in {files.json_file} does not exist; {command}"
    )
    for name in ("1.png", "3.png"):
        (files.image_root / name).write_text("text")
    assert refusal(cfg) == (
        f"annotation file {files.json_file} has 3 errors: image 2.png does not exist; "
        "image 1.png can't be read (it is no image); image 3.png can't be read (it is no image); "
        f"{command}"
    )


def test_evaluation_data_is_checked_too(files: CocoFiles, cfg: CfgNode, tiny_data: TinyData):
    Image.new("RGB", (5, 6)).save(files.image_root / "1.png")
    cfg = configured(cfg, tiny_data.train, files)
    assert "image 1.png in" in refusal(
        cfg
    ) and "has 5 x 6 pixels, but the annotations say" in refusal(cfg)


def test_unreadable_images_may_be_skipped(files: CocoFiles, cfg: CfgNode, tiny_data: TinyData):
    (files.image_root / "0.png").unlink()
    (files.image_root / "2.png").write_text("text")
    Image.new("RGB", (5, 6)).save(files.image_root / "1.png")
    cfg.DATALOADER.SKIP_UNREADABLE = True
    for train, val, name in ((files, None, "train"), (tiny_data.train, files, "val")):
        notes = check_training_data(configured(cfg.clone(), train, val))
        assert f"{name}: images that are not in the folder: 1; skipped and counted." in notes
        assert f"{name}: images that can't be read: 1; skipped and counted." in notes
        assert (
            f"{name}: images of another size than the annotations say: 1; skipped and counted."
            in notes
        )


def test_training_data_needs_an_object_and_evaluation_data_does_not(
    files: CocoFiles, cfg: CfgNode, tiny_data: TinyData
):
    change_json(files, lambda content: content.update(annotations=[]))
    assert "has no object to train on" in refusal(configured(cfg.clone(), files))
    notes = check_training_data(configured(cfg, tiny_data.train, files))
    assert "val: annotation files without an object: 1." in notes


def test_named_data_sets_are_checked_and_others_passed_over(files: CocoFiles, cfg: CfgNode):
    change_json(files, lambda content: content["annotations"][0].update(bbox=[1, 2, 3]))
    register_coco_instances("mine", {}, *map(str, files))
    DatasetCatalog.register("without_json", lambda: [])
    DatasetCatalog.register("of_lvis", lambda: [])
    MetadataCatalog.get("of_lvis").set(json_file="x", image_root="y", evaluator_type="lvis")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("without_json",), ("of_lvis", "clq_trees_test")
    assert check_training_data(cfg) == []
    cfg.DATASETS.TEST = ("of_lvis", "mine")
    assert "annotation 1 in" in refusal(cfg) and "has the bbox [1, 2, 3]" in refusal(cfg)


def test_named_data_sets_must_agree_in_their_classes(
    files: CocoFiles, cfg: CfgNode, tiny_data: TinyData
):
    change_json(files, lambda content: content["categories"][0].update(name="line"))
    register_coco_instances("one", {}, *map(str, tiny_data.train))
    register_coco_instances("other", {}, *map(str, files))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("one",), ("one", "other")
    assert "has classes that differ from the training data's in names" in refusal(cfg)


def test_training_sets_may_share_images(files: CocoFiles, cfg: CfgNode):
    for name in ("one", "other"):
        register_coco_instances(name, {}, *map(str, files))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("one", "other"), ()
    assert not [note for note in check_training_data(cfg) if "also trained on" in note]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("one",), ("other",)
    assert [note for note in check_training_data(cfg) if "also trained on" in note]


def test_a_missing_json_is_named_without_advice(tmp_path: Path, cfg: CfgNode):
    register_coco_instances("mine", {}, str(tmp_path / "none.json"), str(tmp_path))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mine",), ()
    assert refusal(cfg) == f"annotation file {tmp_path / 'none.json'} does not exist"


def test_each_json_is_parsed_once(
    files: CocoFiles, cfg: CfgNode, tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
):
    validate._read_version.cache_clear()
    parsed = Counter[int]()
    parse = json.loads

    def counted(text: str, **options: Any) -> Any:
        parsed.update([len(text)])
        return parse(text, **options)

    monkeypatch.setattr(dialect.json, "loads", counted)
    check_training_data(configured(cfg, files, tiny_data.val))
    sizes = [len(path.read_text()) for path in (files.json_file, tiny_data.val.json_file)]
    assert [parsed[size] for size in sizes] == [1, 1]


def test_the_training_does_not_notice(files: CocoFiles, cfg: CfgNode):
    cfg = configured(cfg, files)
    cfg.freeze()
    before = copy.deepcopy((torch.get_rng_state(), np.random.get_state()[1], random.getstate()))
    check_training_data(cfg)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]


def test_it_takes_about_a_second(files: CocoFiles, cfg: CfgNode):
    def change(content: dict[str, Any]) -> None:
        for k in range(300):
            content["images"].append({**content["images"][0], "id": 1000 + k})
            for copied in content["annotations"][:3]:
                id_ = 1000 + len(content["annotations"])
                content["annotations"].append({**copied, "id": id_, "image_id": 1000 + k})

    change_json(files, change)
    cfg.INPUT.MIN_SIZE_TEST = 800
    cfg = configured(cfg, files)
    start = time.process_time()
    check_training_data(cfg)
    assert time.process_time() - start < 10  # on a busy machine; alone about 1 s
