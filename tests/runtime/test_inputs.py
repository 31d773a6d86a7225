"""Prediction inputs: finding, probing and decoding files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clq.runtime.images import read_image
from clq.runtime.inputs import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Source,
    UnreadableError,
    common_folder,
    find_files,
    probe,
    read_frames,
)
from reference.prediction import pixels, write_image, write_video

NOWHERE = Path("not", "there")
GREY = pixels()[:, :, 0]


def frames(path: Path) -> list[np.ndarray]:
    return list(read_frames(probe(path, path.parent)))


# ---------------------------------------------------------------------------------- finding files


def test_a_folder_is_searched_in_the_order_of_paths(tmp_path: Path):
    names = ["b.PNG", "a/2.jpg", "a/10.jpeg", "c.tiff", "z.mp4", "a.avi"]
    for name in [*names, "notes.txt", ".hidden.png", ".cache/x.png", "data.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_files([tmp_path], ignored=NOWHERE)]
    assert found == ["a/10.jpeg", "a/2.jpg", "a.avi", "b.PNG", "c.tiff", "z.mp4"]


def test_duplicate_files_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = (write_image(tmp_path / name) for name in ("a.png", "b.png"))
    monkeypatch.chdir(tmp_path)
    assert find_files([second, tmp_path, "a.png"], ignored=NOWHERE) == [second, first]


def test_a_named_file_may_have_any_suffix(tmp_path: Path):
    (tmp_path / "scan").touch()
    assert find_files([tmp_path / "scan"], ignored=NOWHERE) == [tmp_path / "scan"]


def test_earlier_predictions_are_no_inputs_unless_they_are_named(tmp_path: Path):
    image, old = write_image(tmp_path / "a.png"), write_image(tmp_path / "out" / "a.png")
    assert find_files([tmp_path], ignored=tmp_path / "out") == [image]
    assert find_files([tmp_path / "out"], ignored=tmp_path / "out") == [old]


def test_a_path_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"typo\.png does not exist\.$"):
        find_files([write_image(tmp_path / "a.png"), tmp_path / "typo.png"], ignored=NOWHERE)


def test_a_folder_without_image_is_named_beside_one_with_some(tmp_path: Path):
    write_image(tmp_path / "full" / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(
        ValueError, match=r"folder .*empty has no image and no video \(\.avi, \.bmp"
    ):
        find_files([tmp_path / "full", tmp_path / "empty"], ignored=NOWHERE)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["photos"], "photos"),
        (["photos/a.png"], "photos"),
        (["photos/a.png", "photos/sub"], "photos"),
        (["photos/sub/a.png", "photos/sub/b.png"], "photos/sub"),
        (["photos", "other/a.png"], "."),
    ],
)
def test_the_folder_that_inputs_share(
    inputs: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("photos/sub", "other"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert common_folder(inputs) == Path(os.path.abspath(expected))


# ---------------------------------------------------------------------------------------- headers


def test_an_image_gets_its_name_from_the_root(tmp_path: Path):
    path = write_image(tmp_path / "sub folder" / "ä.png")
    assert probe(path, tmp_path) == Source(path, "sub folder/ä.png")


def test_a_video_states_its_number_of_frames(tmp_path: Path):
    path = write_video(tmp_path / "clip.avi", num_frames=3)
    expected = Source(path, "clip.avi", is_video=True, num_frames=3, frame_rate=10.0)
    assert probe(path, tmp_path) == expected


@pytest.mark.parametrize(("name", "is_video"), [("image.png", False), ("video.avi", True)])
def test_without_a_suffix_the_content_decides(name: str, is_video: bool, tmp_path: Path):
    write = write_video if is_video else write_image
    path = write(tmp_path / name).rename(tmp_path / "file")
    assert probe(path, tmp_path).is_video == is_video


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES | {".text"} | VIDEO_SUFFIXES))
def test_a_file_of_something_else_is_rejected(suffix: str, tmp_path: Path):
    path = tmp_path / f"a{suffix}"
    path.write_text("This is neither an image nor a video.")
    reason = r"can't be read (\(it is no image\)|as a video|as an image or a video)$"
    with pytest.raises(UnreadableError, match=rf"a{suffix} {reason}"):
        probe(path, tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a"])
def test_an_empty_file_is_rejected(name: str, tmp_path: Path):
    (tmp_path / name).touch()
    with pytest.raises(UnreadableError, match=rf"{name} can't be read"):
        probe(tmp_path / name, tmp_path)


# --------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", Image.fromarray(GREY)),
        ("alpha.png", Image.fromarray(np.dstack((GREY, GREY, GREY, GREY)))),
        ("palette.png", Image.fromarray(GREY).convert("P")),
    ],
)
def test_all_kinds_of_images_become_three_channels_of_8_bits(
    name: str, image: Image.Image, tmp_path: Path
):
    image.save(tmp_path / name)
    (frame,) = frames(tmp_path / name)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, np.dstack((GREY, GREY, GREY)))


def test_channels_are_bgr(tmp_path: Path):
    (frame,) = frames(write_image(tmp_path / "a.png"))
    np.testing.assert_array_equal(frame, pixels()[:, :, ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_come_upright(orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write_image(tmp_path / "a.png", exif=exif)
    (frame,) = frames(path)
    assert frame.shape == ((90, 60, 3) if orientation >= 5 else (60, 90, 3))
    np.testing.assert_array_equal(frame, read_image(path))
    assert (orientation == 1) == np.array_equal(frame, pixels()[:, :, ::-1])


def test_a_video_gives_its_frames_in_order(tmp_path: Path):
    found = frames(write_video(tmp_path / "clip.avi", num_frames=3))
    assert len(found) == 3
    for i, frame in enumerate(found):
        assert frame.shape == (60, 90, 3) and frame.dtype == np.uint8
        distances = [np.abs(frame.astype(int) - pixels(seed=k)).mean() for k in range(3)]
        assert np.argmin(distances) == i


def test_a_video_cut_short_gives_the_frames_that_are_there(tmp_path: Path):
    path = write_video(tmp_path / "clip.avi", num_frames=8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe(path, tmp_path).num_frames == 8
    assert 0 < len(frames(path)) < 8


def test_a_video_without_a_frame_is_rejected(tmp_path: Path):
    path = write_video(tmp_path / "clip.avi")
    source = probe(path, tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnreadableError, match=r"clip.avi can't be read \(not a single frame"):
        next(read_frames(source))


def test_an_image_cut_short_is_rejected(tmp_path: Path):
    path = write_image(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:-60])
    source = probe(path, tmp_path)  # its header is in order
    with pytest.raises(UnreadableError, match=r"a\.png can't be read \(.*\)$"):
        next(read_frames(source))
