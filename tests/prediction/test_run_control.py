"""The window of --show, with OpenCV's functions replaced, since tests have no display."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from clq.prediction import Predictor, predict_files
from clq.prediction.run_control import RunControl
from clq.runtime.inputs import Source
from reference.prediction import read_video, write_checkpoint, write_image, write_video

IMAGE, VIDEO = Source(Path("a.png"), "a.png"), Source(Path("a.avi"), "a.avi", is_video=True)
DRAWING = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


class FakeWindow:
    """Takes OpenCV's calls, and gives keys in turn, then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[int] = []
        self.shown: list[np.ndarray] = []
        self.visible, self.is_open = 1.0, False
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: setattr(self, "is_open", True))
        monkeypatch.setattr(cv2, "imshow", lambda _, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda _: self.keys.pop(0) if self.keys else -1)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: self.visible)
        monkeypatch.setattr(cv2, "destroyAllWindows", lambda: setattr(self, "is_open", False))


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> FakeWindow:
    return FakeWindow(monkeypatch)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "model.safetensors")


@pytest.mark.parametrize("key", (ord("q"), 27, 27 + 0x100000))  # GTK may set higher bits
def test_q_and_escape_end_the_run(window: FakeWindow, key: int):
    for source in (IMAGE, VIDEO):
        window.keys = [key]
        control = RunControl(show=True)
        control.show(DRAWING, source)
        assert control.ended_by == "the window"


def test_an_image_stays_until_a_key_and_a_frame_does_not(window: FakeWindow):
    control, window.keys = RunControl(show=True), [-1, -1, ord("n"), -1]
    control.show(DRAWING, IMAGE)
    assert window.keys == [-1]
    control.show(DRAWING, VIDEO)
    assert window.keys == [] and control.ended_by == ""
    np.testing.assert_array_equal(window.shown[0], DRAWING[:, :, ::-1])  # OpenCV's BGR


def test_a_closed_window_ends_the_run(window: FakeWindow):
    control, window.visible = RunControl(show=True), 0.0
    control.show(DRAWING, IMAGE)
    assert control.ended_by == "the window"


def test_what_was_shown_is_written(window: FakeWindow, weights: Path, tmp_path: Path):
    """Two frames of a video, after which the run ends before its second input."""
    video, image = write_video(tmp_path / "a.avi"), write_image(tmp_path / "b.png")
    window.keys, out = [-1, ord("q")], tmp_path / "out"
    lines = predict_files(weights, [video, image], out, show=True)
    assert lines[0] == "note: the window ended the run; 1 input left out"
    assert lines[-1].startswith("1 video of 2 frames, ")
    assert len(window.shown) == len(read_video(out / "a.avi.mp4")) == 2 and not window.is_open
    window.keys = [ord("n")]
    predict_files(weights, [image], tmp_path / "other", show=True, pictures=False)
    assert len(window.shown) == 3 and not (tmp_path / "other" / "b.png").exists()


def test_without_a_display_a_sentence_comes_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(ValueError, match="--show needs a display, and this machine has none"):
        predict_files("none.pth", [write_image(tmp_path / "a.png")], tmp_path / "out", show=True)


def test_an_opencv_without_windows_is_told(monkeypatch: pytest.MonkeyPatch):
    def no_window(*_: object) -> None:
        raise cv2.error("The function is not implemented.")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", no_window)
    with pytest.raises(ValueError, match="which the installed OpenCV can't open; run `pip unin"):
        RunControl(show=True)
