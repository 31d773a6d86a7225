"""Registering a COCO json pair: what is taken from the json and what is refused."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from clq.data.coco.register import class_difference, register_coco_json

NAME = "clq_test_coco_json"
CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 60, "height": 40},
        {"id": 3, "file_name": "b.png", "width": 50, "height": 40},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 20], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0.5, 0, 4, 4.5], "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "zebra"}, {"id": 4, "name": "yak"}],
}


@pytest.fixture
def content() -> dict[str, Any]:
    return copy.deepcopy(CONTENT)


@pytest.fixture(autouse=True)
def clean_catalogs():
    yield
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    if NAME in MetadataCatalog.list():
        MetadataCatalog.remove(NAME)


def write(folder: Path, content: Any, name: str = "data.json") -> tuple[Path, Path]:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for image in ("a.png", "b.png"):
        (images / image).touch()
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path, images


def register(folder: Path, content: Any) -> list[str]:
    return register_coco_json(NAME, *write(folder, content))


def refusal(folder: Path, content: Any) -> str:
    """The message of the refusal, checked to be one sentence that leaves the catalogs alone."""
    with pytest.raises(ValueError) as error:
        register(folder, content)
    assert "\n" not in str(error.value)
    assert NAME not in DatasetCatalog.list()
    return str(error.value)


def test_names_follow_the_category_ids(tmp_path: Path, content: dict[str, Any]) -> None:
    path, images = write(tmp_path, content)
    assert register_coco_json(NAME, str(path), str(images)) == ["yak", "zebra"]
    metadata = MetadataCatalog.get(NAME)
    assert metadata.thing_classes == ["yak", "zebra"]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 90: 1}
    assert (metadata.json_file, metadata.image_root) == (str(path), str(images))
    assert metadata.evaluator_type == "coco"


def test_records(tmp_path: Path, content: dict[str, Any]) -> None:
    register(tmp_path, content)
    empty, full = DatasetCatalog.get(NAME)  # by image id
    assert empty["file_name"] == str(tmp_path / "images" / "b.png")
    assert (empty["image_id"], empty["width"], empty["height"]) == (3, 50, 40)
    assert empty["annotations"] == []
    zebra, crowd = full["annotations"]
    assert (zebra["category_id"], zebra["bbox"], zebra["iscrowd"]) == (1, [1, 2, 10, 20], 0)
    assert (crowd["category_id"], crowd["bbox"], crowd["iscrowd"]) == (0, [0.5, 0, 4, 4.5], 1)
    assert zebra["bbox_mode"] == BoxMode.XYWH_ABS


def test_registering_again_replaces(tmp_path: Path, content: dict[str, Any]) -> None:
    register(tmp_path, content)
    assert len(DatasetCatalog.get(NAME)) == 2
    content["categories"].append({"id": 1, "name": "ant"})
    del content["images"][1]
    path, images = write(tmp_path, content, "other.json")
    assert register_coco_json(NAME, path, images) == ["ant", "yak", "zebra"]
    assert len(DatasetCatalog.get(NAME)) == 1
    assert MetadataCatalog.get(NAME).thing_classes == ["ant", "yak", "zebra"]
    assert MetadataCatalog.get(NAME).json_file == str(path)


def test_boxes_without_area_are_left_out_with_one_warning(
    tmp_path: Path, content: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for id_, size in enumerate(([0, 5], [5, 0], [-3, 5]), start=10):
        box = [1, 1, *size]
        content["annotations"].append({"id": id_, "image_id": 3, "category_id": 4, "bbox": box})
    register(tmp_path, content)
    with caplog.at_level(logging.WARNING, logger="clq.data.coco.register"):
        records = DatasetCatalog.get(NAME)
    assert [len(record["annotations"]) for record in records] == [0, 2]
    ours = [record for record in caplog.records if record.name == "clq.data.coco.register"]
    assert [record.getMessage() for record in ours] == [
        f"{NAME}: left out 3 boxes without a positive width and height"
    ]


def test_data_without_any_box_is_accepted(tmp_path: Path, content: dict[str, Any]) -> None:
    content["annotations"] = []
    register(tmp_path, content)
    assert [record["annotations"] for record in DatasetCatalog.get(NAME)] == [[], []]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none.json does not exist"):
        register_coco_json(NAME, tmp_path / "none.json", tmp_path)


def test_missing_image_folder(tmp_path: Path, content: dict[str, Any]) -> None:
    path, _ = write(tmp_path, content)
    with pytest.raises(ValueError, match="image folder .*pictures does not exist"):
        register_coco_json(NAME, path, tmp_path / "pictures")


def test_wrong_image_folder(tmp_path: Path, content: dict[str, Any]) -> None:
    path, _ = write(tmp_path, content)
    with pytest.raises(ValueError, match="has no a.png"):
        register_coco_json(NAME, path, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"images": [}'])
def test_not_json(tmp_path: Path, text: str) -> None:
    assert "is not valid json" in refusal(tmp_path, text)


@pytest.mark.parametrize("value", [[], 3, {}, None])
def test_not_coco(tmp_path: Path, value: Any) -> None:
    assert "no list of 'categories'" in refusal(tmp_path, value)


@pytest.mark.parametrize("key", ["categories", "images", "annotations"])
@pytest.mark.parametrize("value", [None, {}, ["text"]])
def test_list_missing(tmp_path: Path, content: dict[str, Any], key: str, value: Any) -> None:
    content[key] = value
    assert f"no list of '{key}'" in refusal(tmp_path, content)


def test_no_image_and_no_category(tmp_path: Path, content: dict[str, Any]) -> None:
    assert "lists no image" in refusal(tmp_path, {**content, "images": []})
    assert "lists no category" in refusal(tmp_path, {**content, "categories": []})


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("value", [5, None, "x", True, [7]])
def test_unknown_reference(tmp_path: Path, content: dict[str, Any], key: str, value: Any) -> None:
    content["categories"].append({"id": 1, "name": "one"})  # True must not pass for 1
    content["images"].append({"id": 1, "file_name": "b.png", "width": 5, "height": 4})
    content["annotations"][1][key] = value
    message = refusal(tmp_path, content)
    assert message.startswith("annotation 2 in ")
    assert f"unknown {key} {value!r}" in message


@pytest.mark.parametrize(
    "box",
    [
        None,
        [],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [1, 2, 3, "x"],
        [1, 2, 3, None],
        [1, 2, float("nan"), 4],
        [1, float("inf"), 3, 4],
        "1234",
    ],
)
def test_bad_box(tmp_path: Path, content: dict[str, Any], box: Any) -> None:
    content["annotations"][0]["bbox"] = box
    message = refusal(tmp_path, content)
    assert message.startswith("annotation 1 in ")
    assert message.endswith("instead of 4 finite numbers")


def test_ignore_flag(tmp_path: Path, content: dict[str, Any]) -> None:
    content["annotations"][0]["ignore"] = 1
    assert "marked 'ignore'" in refusal(tmp_path, content)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_repeated_id(tmp_path: Path, content: dict[str, Any], key: str) -> None:
    content[key].append(copy.deepcopy(content[key][0]))
    assert f"{content[key][0]['id']} is repeated" in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("key", "field"),
    [("images", name) for name in ("id", "file_name", "width", "height")]
    + [("categories", "id"), ("categories", "name"), ("annotations", "id")],
)
def test_missing_field(tmp_path: Path, content: dict[str, Any], key: str, field: str) -> None:
    del content[key][0][field]
    assert f"'{field}'" in refusal(tmp_path, content)


def test_class_difference() -> None:
    assert class_difference(["a", "b"], ("a", "b")) == ""
    assert "only in training ['b'], only in evaluation ['c']" in class_difference("ab", "ac")
    assert "order" in class_difference(["a", "b"], ["b", "a"])
    assert "only in evaluation ['a']" in class_difference(["a"], ["a", "a"])
