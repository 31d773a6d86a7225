"""Prediction outputs: drawings under the names of their inputs, and the COCO json."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from clq.prediction.inputs import Source
from clq.prediction.outputs import CocoFile, drawing_name, drawing_writer
from reference.prediction import pixels, read_video

VIDEO = Source(Path("a"), "a", is_video=True, frame_rate=10.0)


@pytest.mark.parametrize(
    ("name", "is_video", "expected"),
    [
        ("a/b.JPG", False, "a/b.JPG"),
        ("a/b.png", False, "a/b.png"),
        ("scan", False, "scan.png"),
        ("art.psd", False, "art.psd.png"),
        ("clip.mp4", True, "clip.mp4"),
        ("clip.avi", True, "clip.avi.mp4"),
        ("clip", True, "clip.mp4"),
    ],
)
def test_a_drawing_is_named_after_its_input(name: str, is_video: bool, expected: str):
    assert drawing_name(Source(Path("x", name), name, is_video)) == expected


@pytest.mark.parametrize("name", ["ä b.png", "b.bmp", "c.tif"])
def test_an_image_is_written_as_rgb(name: str, tmp_path: Path):
    path = tmp_path / "sub" / name
    with drawing_writer(Source(Path(name), name), path) as write:
        write(pixels())
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels())


def test_a_video_is_written_frame_by_frame(tmp_path: Path):
    path = tmp_path / "sub" / "clip.mp4"
    source = Source(Path("clip.avi"), "clip.avi", True, frame_rate=7.0)
    with drawing_writer(source, path) as write:
        for seed in range(3):
            write(pixels(seed=seed)[:, :, ::-1])
            assert not path.exists()
    frames = read_video(path)
    assert len(frames) == 3 and [p.name for p in path.parent.iterdir()] == ["clip.mp4"]
    for seed, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - pixels(seed=seed)).mean() < 20
        assert np.abs(frame.astype(int) - pixels(seed=seed + 1)).mean() > 50


def test_odd_sizes_are_written(tmp_path: Path):
    with drawing_writer(VIDEO, tmp_path / "a.mp4") as write:
        for _ in range(2):
            write(pixels(61, 91))
    assert [frame.shape for frame in read_video(tmp_path / "a.mp4")] == [(60, 90, 3)] * 2


def test_an_interrupted_video_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "a.mp4").write_text("earlier")
    with pytest.raises(KeyboardInterrupt), drawing_writer(VIDEO, tmp_path / "a.mp4") as write:
        write(pixels())
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_text() == "earlier"


@pytest.mark.parametrize("is_video", [False, True])
def test_an_error_names_a_path_below_a_file(is_video: bool, tmp_path: Path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a.mp4"
    with pytest.raises(OSError, match=r"file/a\.mp4 can't be written \([\w ]+\)\.$"):
        with drawing_writer(Source(Path("a"), "a", is_video), path) as write:
            write(pixels())


def test_an_error_names_a_video_that_can_not_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class NoEncoder:  # not of OpenCV's class, which must not be derived from
        fourcc = cv2.VideoWriter.fourcc
        open = isOpened = staticmethod(lambda *_: False)
        release = staticmethod(lambda: None)

    monkeypatch.setattr(cv2, "VideoWriter", NoEncoder)
    with pytest.raises(OSError, match=r"a\.mp4 can't be written \(OpenCV can't open it"):
        with drawing_writer(VIDEO, tmp_path / "a.mp4") as write:
            write(pixels())
    assert list(tmp_path.iterdir()) == []


def instances(boxes: list, scores: list, classes: list, size: tuple[int, int]) -> Instances:
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores, found.pred_classes = torch.tensor(scores), torch.tensor(classes).long()
    return found


def test_images_categories_and_boxes(tmp_path: Path):
    coco = CocoFile(["tree", "Büsche"], {"weights": "w"})
    coco.add("a.png", instances([[1, 2, 4, 7], [0, 0, 10, 0.5]], [0.5, 0.25], [1, 0], (20, 30)))
    coco.add("b.png", instances([], [], [], (5, 6)))
    coco.add("c.mp4", instances([[1, 1, 2, 2]], [0.75], [1], (8, 9)), frame=0)
    coco.add("c.mp4", instances([[1, 1, 3, 2]], [0.125], [0], (8, 9)), frame=1)
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
    coco.add("a.png", instances([], [], [], (5, 6)))
    coco.write(tmp_path / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["annotations"] == [] and len(content["images"]) == 1


def test_memory_is_24_bytes_per_detection():
    coco = CocoFile(["tree"], {})
    coco.add("a.png", instances([[0, 0, 1, 1]] * 100, [0.5] * 100, [0] * 100, (5, 6)))
    assert sum(rows.nbytes for rows in coco._rows) == 100 * 6 * 4


def test_an_error_names_the_json_that_can_not_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"out\.json can't be written \(.+\)\.$"):
        CocoFile(["tree"], {}).write(tmp_path / "file" / "out.json")


def test_an_interrupted_json_leaves_the_earlier_one(tmp_path: Path, monkeypatch):
    coco = CocoFile(["tree"], {})
    coco.add("a.png", instances([[0, 0, 1, 1]] * 2, [0.5] * 2, [0] * 2, (5, 6)))
    (tmp_path / "out.json").write_text("earlier")

    def interrupted():
        yield {"id": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr(coco, "_annotations", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coco.write(tmp_path / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert (tmp_path / "out.json").read_text() == "earlier"
