"""Thumbnails: which part of an image they show, and where boxes lie on it."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from clq.evaluation.report.thumbnails import (
    FOUND,
    SUBJECT,
    TRUTH,
    Marks,
    Thumbnail,
    ThumbnailMaker,
)


@pytest.fixture
def maker(tmp_path: Path) -> ThumbnailMaker:
    """Images of grey: 400 pixels wide and 200 high, and one that is no image."""
    Image.new("RGB", (400, 200), (60, 60, 60)).save(tmp_path / "grey.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    return ThumbnailMaker(tmp_path)


def decoded(thumbnail: Thumbnail | None) -> np.ndarray:
    assert thumbnail is not None
    head, data = thumbnail.src.split(",")
    assert head == "data:image/jpeg;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert pixels.shape == (thumbnail.height, thumbnail.width, 3)
    return pixels


def columns_of(pixels: np.ndarray, color: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has a colour, as far as JPEG keeps it."""
    near = np.abs(pixels.astype(int) - ImageColor.getrgb(color)).sum(axis=2) < 120
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return columns[0], rows[0], columns[-1], rows[-1]


@pytest.mark.parametrize(("key", "color"), [("truth", TRUTH), ("found", FOUND)])
def test_a_whole_image_is_scaled_with_its_boxes(maker: ThumbnailMaker, key: str, color: str):
    thumbnail = maker.whole("grey.png", Marks(**{key: [(100, 50, 200, 80)]}), side=200)
    pixels = decoded(thumbnail)
    assert pixels.shape[:2] == (100, 200)
    np.testing.assert_allclose(columns_of(pixels, color), (50, 25, 150, 65), atol=2)


def test_a_crop_surrounds_its_subject(maker: ThumbnailMaker):
    pixels = decoded(maker.crop("grey.png", Marks(subject=[(180, 80, 40, 40)]), side=160))
    # A window of four sides, 160 pixels, so that the scale is 1 and the box lies in the middle.
    assert pixels.shape[:2] == (160, 160)
    np.testing.assert_allclose(columns_of(pixels, SUBJECT), (60, 60, 100, 100), atol=2)


@pytest.mark.parametrize("box", [(0, 0, 10, 10), (390, 190, 10, 10), (-30, 100, 40, 90)])
def test_a_crop_stays_inside_the_image(maker: ThumbnailMaker, box):
    pixels = decoded(maker.crop("grey.png", Marks(subject=[box])))
    assert pixels.max(axis=2).min() > 40  # no black border


def test_a_box_without_area_and_one_of_the_whole_image_can_be_shown(maker: ThumbnailMaker):
    for box in ((50, 50, 0, 0), (0, 0, 400, 200), (-1000, -1000, 5000, 5000)):
        decoded(maker.crop("grey.png", Marks(subject=[box])))


@pytest.mark.parametrize("name", ["broken.png", "missing.png"])
def test_an_unreadable_image_has_no_thumbnail(maker: ThumbnailMaker, name: str):
    assert maker.whole(name, Marks()) is None
    assert maker.crop(name, Marks(subject=[(0, 0, 1, 1)])) is None
