"""Predictions in the ids of the data's own json, as pycocotools and leaderboards take them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from clq.prediction.data_ids import DataIds
from clq.runtime.coco_file import CocoFile
from clq.runtime.detections import ImageDetections
from clq.runtime.inputs import Source

CONTENT = {
    "images": [
        {"id": id_, "file_name": name, "width": 64, "height": 48}
        for id_, name in ((40, "x/a.png"), (30, "y/a.png"), (7, "b.png"))
    ],
    "categories": [{"id": 9, "name": "bar"}, {"id": 4, "name": "dot"}],
}


@pytest.fixture
def json_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(CONTENT))
    return path


def source(path: str) -> Source:
    return Source(Path(path), Path(path).name)


def test_loadres_takes_the_predictions(json_file: Path):
    ids = DataIds(json_file)
    names = ["bar", "dot"]
    images = ids.of_images([source("/data/y/a.png")])
    coco = CocoFile(names, {}, category_ids=ids.of_classes(names), image_ids=images)
    box = np.array([[1, 2, 11, 22]], np.float32)
    coco.add("a.png", ImageDetections((48, 64), box, np.array([0.5]), np.array([0])))
    results = json_file.with_name("results.json")
    coco.write_results(results)
    (loaded,) = COCO(str(json_file)).loadRes(str(results)).anns.values()
    assert (loaded["image_id"], loaded["category_id"]) == (30, 9)
    coco.write(results)
    content = json.loads(results.read_text())
    assert content["images"][0]["id"] == 30
    assert content["categories"] == [{"id": 9, "name": "bar"}, {"id": 4, "name": "dot"}]
    assert content["annotations"][0]["category_id"] == 9


@pytest.mark.parametrize("path", ["/data/c.png", "/data/z/a.png"])
def test_an_input_that_the_json_does_not_list(path: str, json_file: Path):
    with pytest.raises(ValueError, match="is no image of .*data.json"):
        DataIds(json_file).of_images([source(path)])


def test_other_refusals(json_file: Path):
    ids = DataIds(json_file)
    with pytest.raises(ValueError, match="no category of the name 'cat'"):
        ids.of_classes(["cat"])
    with pytest.raises(ValueError, match="both image 7"):
        ids.of_images([source("/data/b.png"), Source(Path("/more/b.png"), "more/b.png")])
    with pytest.raises(ValueError, match="none.json does not exist"):
        DataIds(json_file.with_name("none.json"))


def test_ids_of_another_format(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "data.yaml").write_text("names: [bar, dot]\nval: .\n")
    ids = DataIds(tmp_path / "data.yaml")
    assert ids.of_classes(["dot", "bar"]) == [2, 1]
    assert ids.of_images([source("x/deep/a.png")]) == {"a.png": 2}
