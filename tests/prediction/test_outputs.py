"""Prediction outputs: drawings under the names of their inputs, and the COCO json."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from clq.prediction.outputs import drawing_name, drawing_writer
from clq.runtime.inputs import Source
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
