"""Output names come from input names, and no output lies on an input or outside of the folder."""

import os
from pathlib import Path

import numpy as np
import pytest

from clq.prediction import predict_files, run
from clq.prediction.drawing import draw_detections
from clq.runtime.detections import ImageDetections
from clq.runtime.inputs import UnreadableError, probe
from reference.prediction import write_checkpoint, write_image


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "model.safetensors")


def test_an_input_named_as_the_json_stays(weights: Path, tmp_path: Path):
    image = write_image(tmp_path / "a.png").rename(tmp_path / "predictions.json")
    before = image.read_bytes()
    with pytest.raises(ValueError, match="would replace the input .*predictions.json"):
        predict_files(weights, [image], tmp_path, pictures=False)
    assert image.read_bytes() == before


def test_a_linked_folder_is_not_followed_out(weights: Path, tmp_path: Path):
    write_image(tmp_path / "in" / "sub" / "a.png")
    write_image(tmp_path / "in" / "b.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="outside of .* symbolic link"):
        predict_files(weights, [tmp_path / "in"], tmp_path / "out")
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_link_or_hard_link_of_a_pictures_name_is_replaced(weights: Path, tmp_path: Path):
    write_image(tmp_path / "in" / "a.png")
    write_image(tmp_path / "in" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out" / "a.png").symlink_to(tmp_path / "precious")
    os.link(tmp_path / "precious", tmp_path / "out" / "b.png")
    predict_files(weights, [tmp_path / "in"], tmp_path / "out")
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "out" / "a.png").is_symlink()


@pytest.mark.parametrize("name", ["weights", "output"])
def test_a_link_to_itself_is_refused(name: str, weights: Path, tmp_path: Path):
    paths = {"weights": weights, "output": tmp_path / "out"}
    paths[name] = tmp_path / "link"
    paths[name].symlink_to("link")
    image = write_image(tmp_path / "a.png")
    with pytest.raises((OSError, ValueError), match=r"link (do not exist|can't be written)"):
        predict_files(paths["weights"], [image], paths["output"])


def test_names_in_pictures_are_one_line_of_bounded_length():
    box = np.array([[5, 5, 30, 30]], np.float32)
    found = ImageDetections((40, 60), box, np.array([0.9]), np.array([0]))
    image = np.zeros((40, 60, 3), np.uint8)
    for name, shown in (("x" * 10**5, "x" * 60 + "..."), ("a\n\x1bb", r"a\n\x1bb")):
        drawings = [draw_detections(image, found, [n], 0.3) for n in (name, shown)]
        assert np.array_equal(*drawings)


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a"])
def test_a_fifo_is_not_waited_for(name: str, tmp_path: Path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UnreadableError, match="FIFO"):
        probe(tmp_path / name, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA out of memory."),
    ],
    ids=["numpy", "cpu", "cuda"],
)
def test_an_image_too_large_for_the_memory_is_named_and_skipped(
    error: Exception, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    large, small = (write_image(tmp_path / "in" / name) for name in ("a.png", "b.png"))
    read = run.read_frames

    def fail(source, *depth):
        if source.path == large:
            raise error
        return read(source, *depth)

    monkeypatch.setattr(run, "read_frames", fail)
    with pytest.raises(ValueError, match=r"a\.png is too large for the memory; --skip-unreadable"):
        predict_files(weights, [tmp_path / "in"], tmp_path / "out")
    said = predict_files(weights, [tmp_path / "in"], tmp_path / "out", skip_unreadable=True)
    assert "a.png is too large" in said[0] and (tmp_path / "out" / small.name).is_file()


def test_another_error_stays(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_image(tmp_path / "a.png")
    monkeypatch.setattr(run, "read_frames", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_files(weights, [tmp_path / "a.png"], tmp_path / "out", skip_unreadable=True)
