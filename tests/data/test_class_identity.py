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
