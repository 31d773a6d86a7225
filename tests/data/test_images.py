"""Errors where an image file is read."""

import io
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from clq.data.images import READ_ERRORS, reason_of


def noise(form: str) -> bytes:
    """An image file that is long enough to be cut."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["jpeg", "png", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_file_that_is_cut_short_is_among_the_errors(form: str, share: float, tmp_path: Path):
    content = noise(form)
    path = tmp_path / "cut"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(READ_ERRORS) as error:
        read_image(str(path), format="RGB")
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
                read_image(str(path), format="RGB")
                outcomes.add("read")
            except READ_ERRORS as error:
                assert reason_of(error)
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_an_image_of_too_many_pixels_is_among_the_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "bomb.png"
    path.write_bytes(noise("png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(READ_ERRORS, match="exceeds limit") as error:
        read_image(str(path), format="RGB")
    assert isinstance(error.value, Image.DecompressionBombError)


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
