"""The COCO json of a prediction."""

import json
from pathlib import Path

import pytest

from clq.runtime.coco_file import CocoFile
from reference.prediction import detections


def test_images_categories_and_boxes(tmp_path: Path):
    coco = CocoFile(["tree", "Büsche"], {"weights": "w"})
    coco.add("a.png", detections([[1, 2, 4, 7], [0, 0, 10, 0.5]], [0.5, 0.25], [1, 0], (20, 30)))
    coco.add("b.png", detections([], [], [], (5, 6)))
    coco.add("c.mp4", detections([[1, 1, 2, 2]], [0.75], [1], (8, 9)), frame=0)
    coco.add("c.mp4", detections([[1, 1, 3, 2]], [0.125], [0], (8, 9)), frame=1)
    assert coco.num_detections == 4
    coco.write(tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["info"] == {"weights": "w"}
    assert content["categories"] == [{"id": 1, "name": "tree"}, {"id": 2, "name": "Büsche"}]
    assert content["images"] == [
        {"id": 1, "file_name": "a.png", "width": 30, "height": 20},
        {"id": 2, "file_name": "b.png", "width": 6, "height": 5},
        {"id": 3, "file_name": "c.mp4", "frame": 0, "width": 9, "height": 8},
        {"id": 4, "file_name": "c.mp4", "frame": 1, "width": 9, "height": 8},
    ]
    rows = [(1, 1, 2, [1, 2, 3, 5], 15, 0.5), (2, 1, 1, [0, 0, 10, 0.5], 5, 0.25)]
    rows += [(3, 3, 2, [1, 1, 1, 1], 1, 0.75), (4, 4, 1, [1, 1, 2, 1], 2, 0.125)]
    names = ("id", "image_id", "category_id", "bbox", "area", "score")
    expected = [{**dict(zip(names, row, strict=True)), "iscrowd": 0} for row in rows]
    assert content["annotations"] == expected


def test_no_detections(tmp_path: Path):
    coco = CocoFile(["tree"], {})
    coco.add("a.png", detections([], [], [], (5, 6)))
    coco.write(tmp_path / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["annotations"] == [] and len(content["images"]) == 1


def test_memory_is_24_bytes_per_detection():
    coco = CocoFile(["tree"], {})
    coco.add("a.png", detections([[0, 0, 1, 1]] * 100, [0.5] * 100, [0] * 100, (5, 6)))
    assert sum(rows.nbytes for rows in coco._rows) == 100 * 6 * 4


def test_an_error_names_the_json_that_can_not_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"out\.json can't be written \(.+\)\.$"):
        CocoFile(["tree"], {}).write(tmp_path / "file" / "out.json")


def test_an_interrupted_json_leaves_the_earlier_one(tmp_path: Path, monkeypatch):
    coco = CocoFile(["tree"], {})
    coco.add("a.png", detections([[0, 0, 1, 1]] * 2, [0.5] * 2, [0] * 2, (5, 6)))
    (tmp_path / "out.json").write_text("earlier")

    def interrupted():
        yield {"id": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr(coco, "_annotations", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coco.write(tmp_path / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert (tmp_path / "out.json").read_text() == "earlier"
