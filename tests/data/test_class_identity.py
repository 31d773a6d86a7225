"""Class identity: data that user code registers is loaded, then checked, before a run starts."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from clq.config import get_clq_cfg
from clq.data.records import as_coco, load_records
from clq.engine.run_config.run_checks import check_datasets
from clq.evaluation import evaluate_boxes


def records(folder: Path, classes: list[Any]) -> list[dict[str, Any]]:
    Image.new("RGB", (64, 48)).save(folder / "a.png")
    mode = BoxMode.XYXY_ABS
    boxes = [
        {"bbox": np.array([1, 2, 11, 22]), "bbox_mode": mode, "category_id": k} for k in classes
    ]
    return [{"file_name": str(folder / "a.png"), "image_id": "a", "annotations": boxes}]


@pytest.fixture
def register():
    names = []

    def add(name: str, content: Any, classes: list[str] | None = None) -> None:
        DatasetCatalog.register(name, lambda: copy.deepcopy(content))
        names.append(name)
        if classes:
            MetadataCatalog.get(name).thing_classes = classes

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def check(num_classes: int, train: str = "own_train", test: tuple[str, ...] = ()) -> None:
    cfg = get_clq_cfg()
    cfg.MODEL.CLQ.NUM_CLASSES = num_classes
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), test
    check_datasets(cfg, eval_only=False)


@pytest.mark.parametrize(
    ("ids", "num_classes", "message"),
    [
        ([0, 1, 2], 2, "category_id 2"),
        ([0, -1], 2, "category_id -1"),
        ([0, 1.5], 2, "category_id 1.5"),
        ([0, 2], 3, "has the category_id 1"),
        ([0, 1], 80, "has the category_id 2"),
        ([], 1, "no annotations"),
    ],
)
def test_ids_without_names(tmp_path: Path, register, ids, num_classes, message):
    register("own_train", records(tmp_path, ids))
    with pytest.raises(ValueError, match=message):
        check(num_classes)


def test_names_tell_the_classes(tmp_path: Path, register):
    register("own_train", records(tmp_path, [0, 2]), ["a", "b", "c"])
    check(3)
    register("own_test", records(tmp_path, [0]), ["b", "a", "c"])
    with pytest.raises(ValueError, match="differ in order"):
        check(3, test=("own_test",))
    register("short", records(tmp_path, [0, 2]), ["a", "b"])
    with pytest.raises(ValueError, match="category_id 2"):
        check(2, train="short")


def test_text_ids_and_missing_sizes_are_scored(tmp_path: Path, register):
    register("own_train", records(tmp_path, [0, 1]))
    check(2)
    truth = as_coco(load_records("own_train"), ["a", "b"])
    assert truth["images"][0] | {"file_name": ""} == {
        **{"id": "a", "file_name": "", "width": 64, "height": 48}
    }
    found = [
        {"image_id": "a", "category_id": k, "bbox": [1, 2, 10, 20], "score": 0.5} for k in (0, 1)
    ]
    for backend in ("hotcoco", "pycocotools"):
        assert evaluate_boxes(truth, found, backend=backend)["AP"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bbox", None, "the bbox None instead of 4 numbers"),
        ("bbox", [1, 2, float("nan"), 4], "the bbox .* instead of 4 numbers"),
        ("bbox", [1, 2, float("inf"), 4], "the bbox .* instead of 4 numbers"),
        ("bbox", [1, 2, 3, 4, 45], "the bbox .* instead of 4 numbers"),
        ("bbox_mode", None, "the bbox_mode None instead of BoxMode.XYXY_ABS or XYWH_ABS"),
        ("bbox_mode", BoxMode.XYWHA_ABS, "the bbox_mode .* instead of BoxMode.XYXY_ABS"),
        ("iscrowd", None, "the iscrowd None instead of 0 or 1"),
        ("iscrowd", "0", "the iscrowd '0' instead of 0 or 1"),  # which Python takes for true
    ],
)
def test_annotations_that_no_box_can_be_read_from(tmp_path: Path, register, key, value, message):
    content = records(tmp_path, [0, 1])
    content[0]["annotations"][1][key] = value
    register("own_train", content)
    with pytest.raises(ValueError, match=rf"a\.png in the data set 'own_train' has {message}"):
        check(2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file_name", None),
        ("image_id", [1]),
        ("image_id", None),
        ("width", "64"),
        ("annotations", None),
        ("annotations", {}),
    ],
)
def test_records_of_other_types(tmp_path: Path, register, key: str, value: Any):
    content = records(tmp_path, [0, 1])
    content[0][key] = value
    register("own_train", content)
    with pytest.raises(ValueError, match=f"^record 0 of a data set, .* has the {key} .* instead"):
        check(2)


def test_numbers_of_numpy_and_strings_of_numbers_are_read(tmp_path: Path, register):
    (record,) = records(tmp_path, [np.int64(0), 1])
    record |= {"image_id": np.int64(3), "width": np.int32(64), "height": 48.0}
    record["annotations"][0] |= {"bbox": ["1", "2", "11", "22"], "iscrowd": np.bool_(False)}
    register("own_train", [record])
    check(2)


@pytest.mark.parametrize(
    "content", [5, [1, 2], (), iter(())], ids=["number", "numbers", "nothing", "generator"]
)
def test_functions_that_return_no_list_of_records(content: Any, register):
    register("own_train", None)
    DatasetCatalog.remove("own_train")
    DatasetCatalog.register("own_train", lambda: content)
    with pytest.raises(ValueError, match="can't be loaded|no dict|no image"):
        check(2)


def test_images_of_one_id_are_trained_on_but_not_evaluated(tmp_path: Path, register):
    register("own_train", records(tmp_path, [0, 1]) * 2)
    check(2)
    with pytest.raises(
        ValueError, match="2 records .* have the image_id 'a', .* each image its own"
    ):
        check(2, test=("own_train",))


def test_annotations_are_of_all_images_or_of_none(tmp_path: Path, register):
    (record,) = records(tmp_path, [0, 1])
    bare = {key: value for key, value in record.items() if key != "annotations"}
    register("own_train", [record, {**bare, "image_id": "b"}])
    with pytest.raises(ValueError, match=r"a\.png .* has no annotations, unlike others; give an"):
        check(2)
