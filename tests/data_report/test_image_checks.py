"""Image files that are missing, damaged or of another size than the annotations say."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from clq.data.coco.findings import Finding
from clq.data.coco.table import CocoTable
from clq.data.coco.validate import check_content
from clq.data_report import image_checks
from clq.data_report.image_checks import ImageChecks, check_images, decode, read_header


def table_of(*names: str, width: int = 60, height: int = 40) -> CocoTable:
    images = [
        {"id": id_, "file_name": name, "width": width, "height": height}
        for id_, name in enumerate(names)
    ]
    return check_content(
        {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    )


def save(path: Path, width: int = 60, height: int = 40, **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def check(folder: Path, *names: str, **options: Any) -> ImageChecks:
    table = table_of(*names)
    rows = np.arange(len(names))
    return check_images(table, folder, rows, options.pop("read_facts", decode), **options)


def told(findings: list[Finding]) -> dict[str, list[str]]:
    assert all(finding.count == len(finding.examples) for finding in findings)
    return {finding.kind: list(map(str, finding.examples)) for finding in findings}


def test_good_images(tmp_path: Path):
    save(tmp_path / "a.png")
    save(tmp_path / "sub" / "b.jpg")
    save(tmp_path.parent / f"{tmp_path.name}_beside.png")
    names = "a.png", "sub/b.jpg", f"../{tmp_path.name}_beside.png", str(tmp_path / "a.png")
    assert told(check(tmp_path, *names).findings) == {}
    checks = check(tmp_path, *names, "sub/../a.png", "./a.png", read_facts=read_header)
    assert checks.findings == [] and checks.num_read == 6
    assert checks.usable.tolist() == [0, 1, 2, 3, 4, 5]


def test_files_that_are_not_there(tmp_path: Path):
    save(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    names = "b.png", "sub", "a.png", "no/a.png", "a\0.png", "\ud800.png"
    checks = check(tmp_path, *names)
    assert told(checks.findings) == {
        "missing_image": [
            "image b.png does not exist",
            "image sub can't be read (it is a FIFO, a socket, a device or a folder)",
            "image no/a.png does not exist; if it is a.png, write that as its file_name",
            r"image 'a\x00.png' does not exist",
            r"image '\ud800.png' does not exist",
        ]
    }
    assert checks.usable.tolist() == [2] and checks.num_read == 1
    assert checks.findings[0].is_error


def test_a_name_longer_than_a_file_can_have(tmp_path: Path):
    (finding,) = check(tmp_path, "x" * 5000).findings
    assert finding.kind == "missing_image" and len(str(finding.examples[0])) < 200


def test_files_that_can_not_be_read(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    for name in ("cut.jpg", "cut.png"):
        content = save(tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    names = "text.png", "empty.png", "cut.jpg", "cut.png"
    found = told(check(tmp_path, *names).findings)
    assert list(found) == ["unreadable_image"]
    told_of = dict(zip(names, found["unreadable_image"], strict=True))
    assert told_of["text.png"] == "image text.png can't be read (it is no image)"
    assert "truncated" in told_of["cut.jpg"] and "cut.png can't be read (" in told_of["cut.png"]
    # The headers of files that were cut short are whole.
    found = told(check(tmp_path, *names, read_facts=read_header).findings)
    assert len(found["unreadable_image"]) == 2


def test_images_of_another_size(tmp_path: Path):
    save(tmp_path / "a.png", 40, 60)
    for read_facts in (decode, read_header):
        checks = check(tmp_path, "a.png", read_facts=read_facts)
        assert told(checks.findings) == {
            "wrong_size": ["image a.png has 40 x 60 pixels, but the annotations say 60 x 40"]
        }
        assert checks.usable.tolist() == []


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", [None, *range(10)])
def test_a_header_and_pixels_are_of_one_orientation(
    form: str, orientation: int | None, tmp_path: Path
):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path = str(save(tmp_path / f"a.{form}", 60, 40, exif=exif))
    size = (40, 60) if orientation in (5, 6, 7, 8) else (60, 40)
    assert read_header(path)[:2] == decode(path)[:2] == size
    if form != "tiff":  # of which Detectron2 turns what Pillow has turned
        assert read_image(path, format="BGR").shape[1::-1] == size


def test_a_header_is_read_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    assert read_header(str(path)) == (60, 40, None)


def test_skipping_makes_notes_of_them(tmp_path: Path):
    save(tmp_path / "a.png", 40, 60)
    findings = check(tmp_path, "a.png", "b.png", skips_unreadable=True).findings
    assert [finding.is_error for finding in findings] == [False, False]
    assert findings[0].sentence == "images that are not in the folder: 1; skipped and counted"


def test_a_folder_that_is_not_there(tmp_path: Path):
    for skips in (False, True):  # a wrong folder is nothing to skip
        checks = check(tmp_path / "none", "a.png", "b.png", skips_unreadable=skips)
        (finding,) = checks.findings
        assert finding.is_error and finding.kind == "missing_folder"
        assert f"{tmp_path / 'none'}, which does not exist" in str(finding.examples[0])
        assert checks.usable.tolist() == [] and checks.num_read == 0


def test_only_the_chosen_images_are_read(tmp_path: Path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    checks = check_images(
        table_of("a.png", "b.png", "c.png"), tmp_path, np.array([1, 2]), read_header
    )
    assert told(checks.findings) == {
        "missing_image": ["image c.png does not exist"],
        "unreadable_image": ["image b.png can't be read (it is no image)"],
    }
    assert checks.num_read == 1


def test_a_large_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = [f"{k}.png" for k in range(200)]
    for name in names[1:]:
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    os.symlink(tmp_path / "1.png", tmp_path / "link.png")
    asked: list[str] = []
    isfile = os.path.isfile
    monkeypatch.setattr(
        image_checks.os.path, "isfile", lambda path: asked.append(path) or isfile(path)
    )
    table = table_of(*names, "sub", "link.png")
    checks = check_images(table, tmp_path, np.zeros(0, dtype=int), read_header)
    assert told(checks.findings) == {
        "missing_image": [
            "image 0.png does not exist",
            "image sub can't be read (it is a FIFO, a socket, a device or a folder)",
        ]
    }
    assert [Path(path).name for path in asked] == ["0.png", "sub"]
