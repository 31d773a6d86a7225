"""What the network sees is what the user has: images of more than 8 bits per channel."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from clq.config import check_config, get_clq_cfg
from clq.data import CLQMapper
from clq.data_report.image_checks import decode, read_header
from clq.runtime.images import DEPTH_UNKNOWN, read_image

GREY = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
COLORS = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
ALPHA = np.full((40, 60, 1), 9, dtype=np.uint8)

# File, content as it is saved, the bits that it uses, and the image that the network should see.
DEEP: dict[str, tuple[str, np.ndarray, int, np.ndarray]] = {
    "16 bits": ("a.png", GREY.astype(np.uint16) * 257, 16, GREY),
    "12 bits": ("a.tif", np.rint(GREY * (4095 / 255)).astype(np.uint16), 12, GREY),
    "32 bits": ("a.tif", np.rint(GREY * ((2**31 - 1) / 255)).astype(np.int32), 31, GREY),
    "floats from 0 to 1": ("a.tif", (GREY / 255).astype(np.float32), 1, GREY),
    "floats as of 16 bits": ("a.tif", GREY.astype(np.float32) * 257, 16, GREY),
    "colours of 16 bits": ("a.png", COLORS.astype(np.uint16) * 257, 16, COLORS),
    "colours of 12 bits": ("a.png", np.rint(COLORS * (4095 / 255)).astype(np.uint16), 12, COLORS),
    "colours and alpha": ("a.png", np.dstack((COLORS, ALPHA)).astype(np.uint16) * 257, 16, COLORS),
}


def save(path: Path, values: np.ndarray) -> Path:
    """Save an array (H, W) or (H, W, C) in RGB order; Pillow has no colours of 16 bits."""
    if values.ndim == 2:
        Image.fromarray(values).save(path)
    else:
        bgr = np.dstack((values[:, :, 2::-1], values[:, :, 3:]))
        assert cv2.imwrite(str(path), bgr)
    return path


@pytest.fixture(params=DEEP)
def deep(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int, np.ndarray]:
    name, values, bits, expected = DEEP[request.param]
    return (
        save(tmp_path / name, values),
        bits,
        np.broadcast_to(expected.T, (3, 60, 40)).T if (expected.ndim == 2) else expected,
    )


def test_with_its_bit_depth_an_image_is_scaled_to_8_bits(deep: Any):
    path, bits, expected = deep
    np.testing.assert_array_equal(read_image(path, "RGB", bit_depth=bits), expected)
    np.testing.assert_array_equal(read_image(path, "BGR", bit_depth=bits), expected[:, :, ::-1])


def test_the_mapper_and_the_data_check_read_the_same(deep: Any):
    path, bits, expected = deep
    mapper = CLQMapper(is_train=False, augmentations=[], image_format="RGB", bit_depth=bits)
    sample = mapper({"file_name": str(path), "width": 60, "height": 40})
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), expected)
    assert decode(str(path), bits) == (60, 40, (expected.min(), expected.max()))
    assert read_header(str(path), bits) == (60, 40, None)


def test_without_it_such_an_image_is_refused_everywhere(deep: Any):
    path, *_ = deep
    for read in (read_image, decode, read_header):
        with pytest.raises(ValueError) as error:
            read(str(path))
        assert str(error.value) == DEPTH_UNKNOWN


@pytest.mark.parametrize(
    "values, bits, told",
    (
        (
            GREY.astype(np.uint16) * 257,
            12,
            "it has values from .* to 6.*, but .* 12 stands for 0 to 4095",
        ),
        (GREY.astype(np.float32) - 1, 8 + 1, "it has values from -1 to"),
        (np.full((4, 4), np.nan, dtype=np.float32), 1, "it has values from nan to nan"),
        ((GREY / 255).astype(np.float32), 16, "from 0 to 1, but INPUT.BIT_DEPTH 16"),
        (np.full((4, 4), np.inf, dtype=np.float32), 16, "to inf"),
    ),
)
def test_values_beyond_the_bit_depth_are_refused(
    values: np.ndarray, bits: int, told: str, tmp_path: Path
):
    with pytest.raises(ValueError, match=told):
        read_image(save(tmp_path / "a.tif", values), bit_depth=bits)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_image_is_turned_upright(orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / "flat.png", exif=exif)
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png", exif=exif)
    expected = read_image(tmp_path / "flat.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", bit_depth=16), expected)
    assert expected.shape == ((60, 40, 3) if orientation >= 5 else (40, 60, 3))


@pytest.mark.parametrize("mode", ("1", "L", "P", "LA", "RGBA", "CMYK"))
def test_images_of_8_bits_and_less_need_no_bit_depth(mode: str, tmp_path: Path):
    """And do not depend on it."""
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(COLORS).convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path), read_image(path, bit_depth=12))


@pytest.mark.parametrize("bits", (0, -1, 33))
def test_a_bit_depth_that_no_image_has_is_refused(bits: int):
    cfg = get_clq_cfg()
    cfg.INPUT.BIT_DEPTH = bits
    with pytest.raises(ValueError, match=f"INPUT.BIT_DEPTH is {bits}; it must lie in"):
        check_config(cfg)
