"""A tiny Pascal VOC data set becomes a COCO json."""

import json
from pathlib import Path

import pytest
from PIL import Image

import voc_to_coco
from clq.data import register_coco_json

Objects = list[tuple[str, tuple[int, int, int, int]]]


def write_xml(folder: Path, name: str, objects: Objects) -> None:
    corners = ("xmin", "ymin", "xmax", "ymax")
    entries = "".join(
        f"<object><name>{label}</name><bndbox>"
        + "".join(f"<{c}>{v}</{c}>" for c, v in zip(corners, box))
        + "</bndbox></object>"
        for label, box in objects
    )
    size = "<size><width>64</width><height>48</height></size>"
    text = f"<annotation><filename>old</filename>{size}{entries}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(text)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "voc"
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("one\ntwo\n")
    for name in ("one", "two"):
        Image.new("RGB", (64, 48)).save(folder / "JPEGImages" / f"{name}.jpg")
    write_xml(folder, "one", [("cell", (3, 5, 13, 25)), ("dot", (0, 0, 4, 4))])
    write_xml(folder, "two", [("dot", (9, 9, 9, 12)), ("dot", (30, 8, 20, 12))])
    return folder


def arguments(folder: Path, *classes: str, split: str = "train") -> list[str]:
    out = folder.parent / "out" / "train.json"
    return [str(folder), split, "--classes", *classes, "--out", str(out)]


def test_json_has_the_split(voc: Path, capsys: pytest.CaptureFixture[str]):
    voc_to_coco.main(arguments(voc, "dot", "cell"))
    json_file = voc.parent / "out" / "train.json"
    content = json.loads(json_file.read_text())
    assert [image["file_name"] for image in content["images"]] == ["one.jpg", "two.jpg"]
    assert content["images"][0] == {"id": 1, "file_name": "one.jpg", "width": 64, "height": 48}
    first, second = content["annotations"]
    assert first["bbox"] == [3, 5, 10, 20] and first["area"] == 200
    assert (first["category_id"], second["category_id"]) == (2, 1)
    assert register_coco_json("voc", json_file, voc / "JPEGImages") == ["dot", "cell"]

    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and all("two.xml: dropped a dot" in line for line in printed[:2])
    assert printed[-1] == f"{json_file}: 2 images, 2 boxes"


def test_a_class_that_is_not_named(voc: Path):
    with pytest.raises(SystemExit, match="one.xml has the class 'cell'"):
        voc_to_coco.main(arguments(voc, "dot"))
    assert not (voc.parent / "out").exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("Annotations/two.xml", "two.xml"),
        ("ImageSets/Main/train.txt", "train.txt"),
        ("JPEGImages/two.jpg", "no image two"),
    ],
)
def test_missing_files_are_named(voc: Path, broken: str, message: str):
    (voc / broken).unlink()
    with pytest.raises(SystemExit, match=message):
        voc_to_coco.main(arguments(voc, "dot", "cell"))
