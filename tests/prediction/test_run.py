"""All inputs in, one json and the pictures out, and what stops a run before it costs something."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clq.prediction import Predictor, predict_files, run
from clq.runtime.inputs import read_frames
from reference.prediction import (
    CLASS_NAMES,
    pixels,
    read_video,
    write_checkpoint,
    write_image,
    write_video,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "model.safetensors")


@pytest.fixture(scope="module")
def predictor(weights: Path) -> Predictor:
    return Predictor.from_checkpoint(weights)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two images."""
    write_image(tmp_path / "photos" / "a.png", seed=0)
    write_image(tmp_path / "photos" / "sub" / "b.jpg", seed=1)
    return tmp_path / "photos"


@pytest.fixture
def broken(photos: Path) -> Path:
    """An image in that folder whose header is in order, but nothing after it."""
    path = write_image(photos / "broken.png")
    path.write_bytes(path.read_bytes()[:80])
    return path


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test fail whose inputs are not refused before the weights are read."""
    monkeypatch.setattr(
        Predictor, "from_checkpoint", lambda *_, **__: pytest.fail("weights were read")
    )


def content_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "predictions.json").read_text())


def files_of(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_json_has_what_the_model_finds(photos: Path, weights: Path, predictor: Predictor, tmp_path):
    lines = predict_files(weights, [photos], tmp_path / "out")
    content = content_of(tmp_path / "out")
    assert [image["file_name"] for image in content["images"]] == ["a.png", "sub/b.jpg"]
    assert content["categories"] == [{"id": k + 1, "name": n} for k, n in enumerate(CLASS_NAMES)]
    assert content["info"] == {"weights": str(weights), "image_root": str(photos)}
    found = predictor.detect(pixels(seed=0)[:, :, ::-1])
    rows = [anno for anno in content["annotations"] if anno["image_id"] == 1]
    assert len(rows) == len(found) > 0
    boxes = torch.tensor([row["bbox"] for row in rows])
    corners = found.pred_boxes.tensor
    assert torch.equal(boxes, torch.cat((corners[:, :2], corners[:, 2:] - corners[:, :2]), dim=1))
    assert torch.equal(torch.tensor([row["score"] for row in rows]), found.scores)
    assert [row["category_id"] - 1 for row in rows] == found.pred_classes.tolist()
    count, out = len(content["annotations"]), tmp_path / "out"
    assert lines == [
        f"2 images, {count} detections; pictures in {out}/, boxes in {out}/predictions.json"
    ]


def test_pictures_show_what_reaches_the_threshold(photos: Path, weights: Path, tmp_path: Path):
    for threshold, is_drawn in ((0.0, True), (1.0, False)):
        predict_files(weights, [photos], tmp_path / "out", score_threshold=threshold)
        assert files_of(tmp_path / "out") == ["a.png", "predictions.json", "sub/b.jpg"]
        picture = np.asarray(Image.open(tmp_path / "out" / "a.png"))
        assert picture.shape == (540, 810, 3)
        assert len(content_of(tmp_path / "out")["annotations"]) > 0
        plain = np.abs(picture[::9, ::9].astype(int) - pixels()).mean()
        assert (plain > 10) == is_drawn


def test_without_pictures_there_is_one_file(photos: Path, weights: Path, tmp_path: Path):
    (line,) = predict_files(weights, [photos], tmp_path / "out", pictures=False)
    assert files_of(tmp_path / "out") == ["predictions.json"]
    assert line.startswith("2 images, ") and line.endswith(
        f"detections; boxes in {tmp_path}/out/predictions.json"
    )


def test_a_picture_that_lies_on_its_side_is_predicted_upright(
    weights: Path, predictor: Predictor, tmp_path: Path
):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write_image(tmp_path / "a.png", exif=exif)
    predict_files(weights, [path], tmp_path / "out")
    content = content_of(tmp_path / "out")
    assert content["images"] == [{"id": 1, "file_name": "a.png", "width": 60, "height": 90}]
    found = predictor.detect(np.rot90(pixels(), k=-1)[:, :, ::-1])
    x0, y0, x1, y1 = found.pred_boxes.tensor[0].tolist()
    assert content["annotations"][0]["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=1e-4)
    assert Image.open(tmp_path / "out" / "a.png").size == (540, 810)


def test_a_video_is_predicted_frame_by_frame(weights: Path, predictor: Predictor, tmp_path: Path):
    clip = write_video(tmp_path / "my clip.avi", num_frames=3)
    (line,) = predict_files(weights, [clip], tmp_path / "out")
    content = content_of(tmp_path / "out")
    assert content["images"] == [
        {"id": i + 1, "file_name": "my clip.avi", "frame": i, "width": 90, "height": 60}
        for i in range(3)
    ]
    frames = list(read_frames(run.probe(clip, tmp_path)))
    for i, frame in enumerate(frames, start=1):
        rows = [anno["score"] for anno in content["annotations"] if anno["image_id"] == i]
        assert rows == predictor.detect(frame).scores.tolist()
    assert files_of(tmp_path / "out") == ["my clip.avi.mp4", "predictions.json"]
    pictures = read_video(tmp_path / "out" / "my clip.avi.mp4")
    assert [picture.shape for picture in pictures] == [(540, 810, 3)] * 3
    assert line.startswith("1 video of 3 frames, ")


def test_a_video_cut_short_is_predicted_as_far_as_it_goes(weights: Path, tmp_path: Path):
    clip = write_video(tmp_path / "clip.avi", num_frames=8)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    note, line = predict_files(weights, [clip], tmp_path / "out")
    count = len(content_of(tmp_path / "out")["images"])
    assert 0 < count < 8
    assert note == f"note: {clip} gave {count} frames, but its header tells of 8"
    assert (
        line.startswith(f"1 video of {count} frame")
        and len(read_video(tmp_path / "out" / "clip.avi.mp4")) == count
    )


def test_the_same_name_in_two_folders(weights: Path, tmp_path: Path, monkeypatch):
    for folder in ("one", "two"):
        write_image(tmp_path / folder / "a.png")
    monkeypatch.chdir(tmp_path)
    predict_files(weights, ["one", "two/a.png"], "out")
    expected = ["one/a.png", "two/a.png"]
    assert files_of(tmp_path / "out") == sorted([*expected, "predictions.json"])
    assert [image["file_name"] for image in content_of(Path("out"))["images"]] == expected


def test_a_second_run_over_the_same_folder_gives_the_same(weights: Path, photos: Path):
    first = predict_files(weights, [photos], photos / "out")
    before = content_of(photos / "out")
    assert predict_files(weights, [photos], photos / "out") == first
    assert content_of(photos / "out") == before


def test_images_of_more_than_8_bits_are_refused_before_the_first_is_read(
    weights: Path, tmp_path: Path
):
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    Image.fromarray(pixels()[:, :, 0].astype(np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b.png can't be read \(.*train with INPUT.BIT_DEPTH"):
        predict_files(weights, [tmp_path], tmp_path / "out", pictures=False)
    assert not (tmp_path / "out").exists()
    done = predict_files(
        weights, [tmp_path], tmp_path / "out", pictures=False, skip_unreadable=True
    )
    assert done[-1].startswith("1 image, 1 skipped")


# ------------------------------------------------------------------------------ files that are bad


def test_a_file_that_can_not_be_decoded_ends_the_run(weights: Path, photos: Path, broken, tmp_path):
    with pytest.raises(ValueError) as error:
        predict_files(weights, [photos], tmp_path / "out")
    message = str(error.value)
    assert message.startswith(f"{broken} can't be read (") and message.count("\n") == 0
    assert message.endswith("; --skip-unreadable goes on without it.")
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_it_is_named_and_counted_where_that_is_asked_for(
    weights: Path, photos: Path, broken: Path, tmp_path: Path
):
    (photos / "no_image.jpg").write_text("text")
    skipped = predict_files(weights, [photos], tmp_path / "out", skip_unreadable=True)
    line = skipped.pop()
    assert line.startswith("2 images, 2 skipped, ")
    assert skipped[0] == f"skipped: {photos}/no_image.jpg can't be read (it is no image)"
    assert skipped[1].startswith(f"skipped: {broken} can't be read (") and len(skipped) == 2
    assert [i["file_name"] for i in content_of(tmp_path / "out")["images"]] == [
        "a.png",
        "sub/b.jpg",
    ]
    assert files_of(tmp_path / "out") == ["a.png", "predictions.json", "sub/b.jpg"]


def test_if_none_is_left_that_is_an_error(weights: Path, broken: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no input can be read; .*broken\.png can't be read"):
        predict_files(weights, [broken], tmp_path / "out", skip_unreadable=True)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("skip", [False, True])
def test_a_typing_error_costs_nothing(photos: Path, tmp_path: Path, skip: bool):
    with pytest.raises(ValueError, match="typo.png does not exist"):
        predict_files("w", [photos, tmp_path / "typo.png"], tmp_path / "out", skip_unreadable=skip)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_weights")
def test_a_file_that_is_no_image_is_seen_before_the_work(photos: Path, tmp_path: Path):
    (photos / "z.jpg").write_text("text")
    with pytest.raises(ValueError, match=r"z\.jpg can't be read \(it is no image\)"):
        predict_files("w", [photos], tmp_path / "out")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float, photos: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^--score-threshold is .*; it must lie in \[0, 1\]\.$"):
        predict_files("w", [photos], tmp_path / "out", score_threshold=threshold)


# ------------------------------------------------------------------------------- the output folder


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("output", [".", "photos"])
def test_a_picture_never_replaces_an_input(
    output: str, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(photos.parent)
    inputs = [photos.parent] if output == "." else [photos]
    before = (photos / "a.png").read_bytes()
    with pytest.raises(ValueError, match=r"would replace the input .* folder by --output"):
        predict_files("w", inputs, output)
    assert (photos / "a.png").read_bytes() == before


@pytest.mark.usefixtures("no_weights")
def test_a_picture_never_replaces_another(tmp_path: Path):
    write_image(tmp_path / "scan.png")
    (tmp_path / "scan").write_bytes((tmp_path / "scan.png").read_bytes())
    inputs = [tmp_path / "scan", tmp_path / "scan.png"]
    with pytest.raises(ValueError, match=r"pictures of .*scan and .*scan\.png would both be"):
        predict_files("w", inputs, tmp_path / "out")


def test_a_folder_below_a_file_is_named(weights: Path, photos: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"^the folder .*file/out can't be written \([\w ]+\); name "):
        predict_files(weights, [photos], tmp_path / "file" / "out")


def test_weights_that_are_not_there_are_named(photos: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere.safetensors"):
        predict_files(tmp_path / "nowhere.safetensors", [photos], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("form", "is_told"), [("gif", True), ("tiff", True), ("mpo", False)])
def test_pages_behind_the_first_are_told(form: str, is_told: bool, weights: Path, tmp_path: Path):
    pages = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    path = tmp_path / f"a.{form}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    told = predict_files(weights, [path], tmp_path / "out", pictures=False)
    note = f"note: {path} has several pages or frames; the first was used"
    assert (note in told) == is_told
