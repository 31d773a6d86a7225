"""Dialects of data: one content in the notations of many tools reads the same."""

import codecs
import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from clq.data.coco.register import (
    load_boxes,
    register_coco_json,
    take_over_coco_instances,
)

CONTENT: dict[str, Any] = {
    "images": [{"id": 12, "file_name": "images/a.png", "width": 64, "height": 48}],
    "annotations": [{"id": 1, "image_id": 12, "category_id": 0, "bbox": [1, 2, 10.5, 20]}],
    "categories": [{"id": 0, "name": "bar"}, {"id": 3, "name": "dot"}],
}


@pytest.fixture(autouse=True)
def picture(tmp_path: Path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images/a.png")
    yield
    for name in {"dialect", "instances"}.intersection(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def read(folder: Path, content: Any, encoding: str = "utf-8", mark: bytes = b"") -> list[Any]:
    path = folder / "data.json"
    path.write_bytes(mark + json.dumps(content).encode(encoding))
    assert register_coco_json("dialect", path, folder) == ["bar", "dot"]
    return DatasetCatalog.get("dialect")


def check_instances(folder: Path) -> None:
    """The json last read is the same where user code registers it by Detectron2's function."""
    register_coco_instances("instances", {}, str(folder / "data.json"), str(folder))
    take_over_coco_instances("instances")
    assert DatasetCatalog.get("instances") == DatasetCatalog.get("dialect")
    assert MetadataCatalog.get("instances").thing_classes == ["bar", "dot"]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", codecs.BOM_UTF8), ("utf-16", b""), ("utf-16-le", b""), ("utf-32", b"")],
)
def test_encodings(encoding: str, mark: bytes, tmp_path: Path):
    records = read(tmp_path, CONTENT, encoding, mark)
    check_instances(tmp_path)
    assert records == read(tmp_path, CONTENT)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("images", {"width": 64.0, "height": "48"}),
        ("images", {"id": "12"}),
        ("images", {"file_name": "images\\a.png"}),
        ("annotations", {"image_id": "12", "category_id": "0"}),
        ("annotations", {"bbox": ["1", "2", "10.5", "20"]}),
        ("annotations", {"iscrowd": None, "area": None, "segmentation": None}),
        ("annotations", {"iscrowd": False, "segmentation": []}),
        ("annotations", {"iscrowd": "0"}),
        ("annotations", {"iscrowd": 0.0, "segmentation": {"counts": "x", "size": [48, 64]}}),
        ("annotations", {"segmentation": [[1, 2, 3, 4]], "area": "210"}),
        ("annotations", {"segmentation": [1, 2, 3, 2, 3, 4]}),
    ],
)
def test_notations(section: str, change: dict[str, Any], tmp_path: Path):
    content = copy.deepcopy(CONTENT)
    content[section][0] |= change
    records = read(tmp_path, content)
    check_instances(tmp_path)
    assert records == read(tmp_path, CONTENT)


def test_a_registered_set_keeps_its_metadata_unless_it_contradicts(tmp_path: Path):
    read(tmp_path, CONTENT)
    metadata = {"thing_classes": ["bar", "dot"], "thing_colors": [(1, 2, 3), (4, 5, 6)]}
    register_coco_instances("instances", metadata, str(tmp_path / "data.json"), str(tmp_path))
    kept = MetadataCatalog.get("instances")
    take_over_coco_instances("instances")
    assert kept.thing_dataset_id_to_contiguous_id == {0: 0, 3: 1}
    assert kept.thing_colors == metadata["thing_colors"]
    DatasetCatalog.remove("instances")
    kept.thing_classes.reverse()
    register_coco_instances("instances", {}, kept.json_file, kept.image_root)
    with pytest.raises(ValueError, match=r"other classes than .*data\.json has, which are \['bar'"):
        take_over_coco_instances("instances")


def test_own_functions_stay(tmp_path: Path):
    DatasetCatalog.register("instances", lambda: [])
    take_over_coco_instances("instances")
    assert DatasetCatalog.get("instances") == []


def test_classes_that_change_after_the_registration_are_refused(tmp_path: Path):
    read(tmp_path, CONTENT)
    content = {**CONTENT, "categories": [*CONTENT["categories"], {"id": 9, "name": "new"}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"were \['bar', 'dot'\] when .* are \['bar', 'dot', 'new'"
    ):
        DatasetCatalog.get("dialect")


def test_a_root_category_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    content = copy.deepcopy(CONTENT)
    for category in content["categories"]:
        category |= {"id": category["id"] + 1, "supercategory": "things"}
    content["annotations"][0]["category_id"] = 1
    content["categories"].append({"id": 0, "name": "things", "supercategory": "none"})
    with caplog.at_level(logging.WARNING, logger="clq.data.coco.register"):
        assert read(tmp_path, content) == read(tmp_path, CONTENT)
    assert "left out the category 'things'" in caplog.text
    content["annotations"][0]["category_id"] = 0
    (tmp_path / "used.json").write_text(json.dumps(content))
    classes = register_coco_json("dialect", tmp_path / "used.json", tmp_path)
    assert classes == ["things", "bar", "dot"]


def test_a_list_of_images_is_enough_to_predict_on(tmp_path: Path):
    path = tmp_path / "info.json"
    path.write_text(json.dumps({k: v for k, v in CONTENT.items() if k != "annotations"}))
    with pytest.raises(ValueError, match="no list of 'annotations'"):
        register_coco_json("dialect", path, tmp_path)
    register_coco_json("dialect", path, tmp_path, needs_labels=False)
    assert "annotations" not in load_boxes(path, tmp_path, "dialect")[0]
