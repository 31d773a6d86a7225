"""One reader for files, file objects, PIL images and arrays, and its errors."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import detection_utils
from PIL import Image

from clq.runtime.images import READ_ERRORS, read_image, reason_of, upright_size
from clq.runtime.predictor import ImagePredictor
from reference.settings import SETTINGS


def noise(form: str) -> bytes:
    """An image file that is long enough to be cut."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form)
    return buffer.getvalue()


def saved(image: Image.Image, path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


PIXELS = np.random.default_rng(2).integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY = PIXELS[:, :, 0]
FORMS = ("tiff", "png")


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_source_gives_the_pixels_of_the_training_loader(
    form: str, orientation: int, tmp_path: Path
):
    path = saved(Image.fromarray(PIXELS), tmp_path / f"a.{form}", orientation)
    for channels in ("BGR", "RGB"):
        expected = detection_utils.read_image(str(path), channels)
        assert expected.shape == ((60, 40, 3) if orientation >= 5 else (40, 60, 3))
        with path.open("rb") as file, Image.open(path) as image:
            sources = (path, str(path), file, io.BytesIO(path.read_bytes()), image)
            for source in sources:
                np.testing.assert_array_equal(read_image(source, channels), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int, tmp_path: Path):
    """As a PNG of the same orientation; Pillow turns a TIFF by itself, when it is decoded."""
    tiff, png = (saved(Image.fromarray(PIXELS), tmp_path / f"a.{e}", orientation) for e in FORMS)
    expected = read_image(png)
    np.testing.assert_array_equal(read_image(tiff), expected)
    with Image.open(tiff) as image:
        assert upright_size(image) == expected.shape[1::-1]
        np.testing.assert_array_equal(read_image(image), expected)


def test_a_damaged_exif_leaves_an_image_as_it_is(tmp_path: Path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", "RGB"), PIXELS)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(np.dstack((GREY, GREY, GREY, 255 - GREY))),
        Image.fromarray(GREY).convert("P"),
    ],
    ids=["grey", "alpha", "palette"],
)
def test_other_modes_become_three_channels_of_8_bits(image: Image.Image, tmp_path: Path):
    image.save(tmp_path / "a.png")
    for source in (image, tmp_path / "a.png"):
        pixels = read_image(source)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, np.dstack((GREY, GREY, GREY)))


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path):
    Image.fromarray(GREY).convert("P").save(tmp_path / "a.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.dstack((GREY, GREY, GREY)))


def test_an_array_is_taken_as_rgb():
    np.testing.assert_array_equal(read_image(PIXELS), PIXELS[:, :, ::-1])
    np.testing.assert_array_equal(read_image(PIXELS, "RGB"), PIXELS)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (GREY, r"\(40, 60\) uint8"),
        (np.dstack((PIXELS, GREY)), r"\(40, 60, 4\) uint8"),
        (PIXELS.transpose(2, 0, 1), r"\(3, 40, 60\) uint8"),
        (PIXELS[:0], r"\(0, 60, 3\) uint8"),
        (PIXELS / 255, r"\(40, 60, 3\) float64"),
        (PIXELS.astype(np.int64), r"\(40, 60, 3\) int64"),
    ],
    ids=["grey", "alpha", "channels first", "empty", "float", "int64"],
)
def test_other_arrays_are_rejected_in_one_sentence(array: np.ndarray, what: str):
    message = rf"^an image array must be \(height, width, 3\) uint8 in RGB order, not {what}$"
    with pytest.raises(ValueError, match=message):
        read_image(array)


def test_other_types_are_rejected_in_one_sentence():
    with pytest.raises(TypeError, match="path, file object, PIL image or array, not list$"):
        read_image([1, 2, 3])  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["jpeg", "png", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_file_that_is_cut_short_is_among_the_errors(form: str, share: float, tmp_path: Path):
    content = noise(form)
    path = tmp_path / "cut"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(READ_ERRORS) as error:
        read_image(path)
    with pytest.raises(READ_ERRORS):
        read_image(io.BytesIO(path.read_bytes()))
    reason = reason_of(error.value)
    assert reason and "\n" not in reason and not reason.endswith(".")


def test_a_damaged_file_is_read_or_among_the_errors(tmp_path: Path):
    rng = np.random.default_rng(1)
    path = tmp_path / "damaged"
    outcomes = set()
    for form in ("jpeg", "png", "tiff"):
        for _ in range(20):
            content = np.frombuffer(noise(form), dtype=np.uint8).copy()
            content[rng.integers(len(content), size=8)] = rng.integers(256, size=8)
            path.write_bytes(content.tobytes())
            try:
                read_image(path)
                outcomes.add("read")
            except READ_ERRORS as error:
                assert reason_of(error)
                outcomes.add("rejected")
    assert outcomes == {"read", "rejected"}


def test_an_image_of_too_many_pixels_is_among_the_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "bomb.png"
    path.write_bytes(noise("png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(READ_ERRORS, match="exceeds limit") as error:
        read_image(path)
    assert isinstance(error.value, Image.DecompressionBombError)
    assert "--tile N takes images of any size" in reason_of(error.value)


def test_common_reasons_do_not_repeat_the_file(tmp_path: Path):
    path = tmp_path / "a.png"
    with pytest.raises(OSError) as error:
        Image.open(path)
    assert reason_of(error.value) == "it does not exist"
    path.write_text("text")
    with pytest.raises(OSError) as error:
        Image.open(path)
    assert reason_of(error.value) == "it is no image"


def test_a_reason_is_one_line():
    assert reason_of(OSError("cut\n  short.")) == "cut short"
    assert reason_of(EOFError()) == "EOFError"


class _Blind(ImagePredictor):
    def find_candidates(self, images: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    "image",
    (
        None,
        GREY,
        np.dstack((PIXELS, GREY)),
        PIXELS.astype(np.float32),
        PIXELS.astype(np.uint16),
        PIXELS.astype(object),
        PIXELS[:, :0],
        [[1, 2, 3]],
    ),
    ids=("None", "grey", "alpha", "float", "uint16", "object", "empty", "list"),
)
def test_the_predictor_takes_no_other_arrays(image: Any):
    predictor = _Blind(SETTINGS)
    with pytest.raises(ValueError, match=r"^an image array must be .* uint8 in BGR order, not "):
        predictor.find([image])
