"""Detection by an exported file, here a session that knows what it is shown."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clq.prediction import predict_files
from clq.runtime import Detector, __main__
from clq.runtime.exported import ExportedPredictor, is_exported
from clq.runtime.options import ViewOptions
from reference.settings import SETTINGS
from reference.tiny_graph import PLAIN, write_detector

MEAN = (120.0, 110.0, 100.0)
SMALL = replace(
    SETTINGS, min_size=64, max_size=96, strides=(32,), class_names=("red", "green", "blue")
)


class ColourSession:
    """Finds, in each cell of 32 pixels, the channels that are nearly at their highest."""

    def __init__(self, fixed_size: tuple[int, int] | None = None) -> None:
        self.metadata = SimpleNamespace(
            settings=SMALL, pixel_mean=MEAN, fixed_size=fixed_size, has_nms=False
        )
        self.seen: list[np.ndarray] = []

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert images.dtype == np.float32
        self.seen.append(images.copy())
        n, _, h, w = images.shape
        y, x = (side.ravel() * 32.0 for side in np.mgrid[: h // 32, : w // 32])
        boxes = np.stack((x + 4, y + 4, x + 28, y + 28), axis=1).astype(np.float32)
        cells = images.reshape(n, 3, h // 32, 32, w // 32, 32).mean(axis=(3, 5))
        scores = (cells > 200).reshape(n, 3, -1).swapaxes(1, 2) * np.float32(0.9)
        return np.broadcast_to(boxes, (n, *boxes.shape)), scores


def picture(height: int, width: int, *places: tuple[int, int, int]) -> np.ndarray:
    """Black RGB, with cells of 32 pixels in one of the three colours."""
    image = np.zeros((height, width, 3), np.uint8)
    for y, x, channel in places:
        image[32 * y : 32 * y + 32, 32 * x : 32 * x + 32, channel] = 255
    return image


def test_boxes_are_in_pixels_of_the_image():
    """128 x 192 is halved; padding beyond 64 x 96 would be of the mean."""
    image = picture(128, 192, (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 2, 2), (2, 3, 2))
    image[96:, 64:128, 2] = 255
    session = ColourSession()
    result = Detector(ExportedPredictor(session)).predict(image)
    order = np.lexsort(result.boxes.T)
    np.testing.assert_array_equal(result.boxes[order], [[8, 8, 56, 56], [72, 72, 120, 120]])
    assert [result.names[i] for i in order] == ["red", "blue"]
    assert session.seen[0].shape == (1, 3, 64, 96)


def test_a_batch_is_padded_with_the_mean_and_gives_what_images_give():
    images = [picture(64, 64, (0, 1, 1)), picture(64, 90, (1, 0, 2)), picture(64, 96, (0, 0, 0))]
    session = ColourSession()
    detector = Detector(ExportedPredictor(session))
    together = detector.predict(images, batch_size=3)
    assert [len(batch) for batch in session.seen] == [1, 2]  # those of 64 x 96 share a pass
    padding = session.seen[1][0, :, :, 90:]
    assert (padding == np.array(MEAN)[:, None, None]).all() and padding.size
    for result, image in zip(together, images):
        alone = detector.predict(image)
        np.testing.assert_array_equal(result.boxes, alone.boxes)
        np.testing.assert_array_equal(result.labels, alone.labels)
        assert len(alone) == 1


def test_a_graph_of_one_size_takes_smaller_images_and_refuses_larger_ones():
    session = ColourSession(fixed_size=(64, 96))
    predictor = ExportedPredictor(session)
    (found,) = predictor.find([picture(64, 70, (1, 0, 1))])
    assert session.seen[0].shape == (1, 3, 64, 96) and len(found) == 1
    with pytest.raises(ValueError, match=r"is 96 x 64 pixels .* takes 64 x 96; .*--size, or use"):
        predictor.find([picture(96, 64)])


def test_tiles_and_views_are_those_of_any_detector():
    """A mirrored view finds the same cells; an object within two tiles is one."""
    image = picture(96, 192, (1, 1, 0), (1, 4, 2))
    predictor = ExportedPredictor(ColourSession())
    sizes = {"min_size": 96, "max_size": 999, "augment_min_sizes": (96,), "augment_max_size": 999}
    predictor.settings = replace(SMALL, **sizes)
    for options in (ViewOptions(augment=True), ViewOptions(tile=96, overlap=0.0)):
        (found,) = predictor.with_options(options).find([image[:, :, ::-1]])
        order = np.argsort(found.boxes[:, 0])
        np.testing.assert_array_equal(found.boxes[order], [[36, 36, 60, 60], [132, 36, 156, 60]])
        assert found.classes[order].tolist() == [0, 2]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> ColourSession:
    session = ColourSession()
    monkeypatch.setattr(
        ExportedPredictor, "from_file", lambda path, threads=None: ExportedPredictor(session)
    )
    return session


def test_the_command_writes_the_json_of_clq_predict(
    opened: ColourSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "photos" / "more").mkdir(parents=True)
    Image.fromarray(picture(64, 64, (0, 1, 1))).save(tmp_path / "photos" / "b.png")
    Image.fromarray(picture(64, 90, (1, 0, 2))).save(tmp_path / "photos" / "more" / "a.png")
    arguments = ["m.onnx", str(tmp_path / "photos"), "--output", str(tmp_path / "out")]
    __main__.main([*arguments, "--batch-size", "3"])
    printed = capsys.readouterr().out
    assert printed == f"2 images, 2 detections; boxes in {tmp_path}/out/predictions.json\n"
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["info"] == {"weights": "m.onnx", "image_root": str(tmp_path / "photos")}
    assert [image["file_name"] for image in content["images"]] == ["b.png", "more/a.png"]
    assert [found["bbox"] for found in content["annotations"]] == [[36, 4, 24, 24], [4, 36, 24, 24]]
    assert [found["category_id"] for found in content["annotations"]] == [2, 3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}/no.png"], "no.png does not exist."),
        (["{}/text.png"], "text.png can't be read (it is no image)."),
        (["{}/a.png", "--batch-size", "0"], "--batch-size is 0; it must lie in [1, 1024]."),
        (["{}/a.png", "--tile", "9"], "TEST.TILE is 9; it must be a whole number of pixels"),
    ],
)
def test_refusals_are_one_sentence(arguments: list[str], said: str, opened: Any, tmp_path: Path):
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("text")
    arguments = [argument.format(tmp_path) for argument in arguments]
    with pytest.raises(SystemExit) as error:
        __main__.main(["m.onnx", *arguments, "--output", str(tmp_path / "out")])
    assert str(error.value.code).startswith("error: ") and said in str(error.value.code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", (1, 2))
def test_an_image_that_the_graph_does_not_take_is_named(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    predictor = ExportedPredictor(ColourSession(fixed_size=(64, 96)))
    monkeypatch.setattr(ExportedPredictor, "from_file", lambda path, threads=None: predictor)
    for name, height in (("a.png", 64), ("b.png", 96)):
        Image.fromarray(picture(height, 64)).save(tmp_path / name)
    arguments = ["m.onnx", str(tmp_path), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as error:
        __main__.main([*arguments, "--batch-size", str(size)])
    text = f"error: {tmp_path}/b.png: the image is 96 x 64 pixels after resizing, but"
    assert str(error.value.code).startswith(text)


def test_an_image_that_the_graph_does_not_take_is_skipped(tmp_path: Path):
    """By clq predict, if it may."""
    write_detector(tmp_path / "model.onnx", replace(PLAIN, fixed_size=(64, 96)))
    for name, height in (("a.png", 64), ("b.png", 96)):
        Image.fromarray(picture(height, 64)).save(tmp_path / name)
    arguments = (tmp_path / "model.onnx", [tmp_path / "a.png", tmp_path / "b.png"])
    told = f"{tmp_path}/b.png: the image is 96 x 64 pixels after resizing, but"
    with pytest.raises(ValueError, match=rf"^{told}.*; --skip-unreadable goes on without it\.$"):
        predict_files(*arguments, tmp_path / "no")
    skipped, _ = predict_files(*arguments, tmp_path / "out", skip_unreadable=True)
    assert skipped.startswith(f"skipped: {told}")


def test_an_output_that_can_not_be_written_is_told_before_the_network_runs(
    opened: ColourSession, tmp_path: Path
):
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as error:
        __main__.main(["m.onnx", str(tmp_path / "a.png"), "--output", str(tmp_path / "a.png")])
    assert f"the folder {tmp_path}/a.png can't be written (" in str(error.value.code)
    assert not opened.seen


def test_ctrl_c_ends_the_command_in_a_sentence(
    opened: ColourSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(opened, "run", interrupt)
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as leaving:
        __main__.main(["m.onnx", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")])
    assert leaving.value.code == 130
    assert capsys.readouterr().err == "\nInterrupted; predictions.json was not written.\n"


def test_a_file_with_nms_is_for_other_programs():
    session = ColourSession()
    session.metadata.has_nms, session.path = True, "nms.onnx"
    with pytest.raises(ValueError, match="nms.onnx has NMS in its graph, .* without --nms"):
        ExportedPredictor(session)


def test_exported_files_are_told_by_name():
    assert is_exported("a.ONNX") and is_exported(Path("b.xml")) and is_exported("c.pt2")
    assert not is_exported("model.safetensors") and not is_exported("onnx")
