"""Pascal VOC's xml: what is read, and what is refused."""

from pathlib import Path

import pytest

from clq.data.coco.voc import coco_annotation, read_voc

SIZE = "<size><width>64</width><height>48</height></size>"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5.5</xmax><ymax>8</ymax></bndbox>"


def write(folder: Path, content: str) -> Path:
    (folder / "a.xml").write_text(content)
    return folder / "a.xml"


def test_numbers_are_taken_as_they_stand(tmp_path: Path):
    path = write(tmp_path, f"<annotation>{SIZE}<object><name>x</name>{BOX}</object></annotation>")
    assert read_voc(path) == (64, 48, [("x", (1, 2, 5.5, 8))])
    assert read_voc(write(tmp_path, f"<annotation>{SIZE}</annotation>")).objects == []


def test_a_box_in_the_form_of_coco():
    annotation = coco_annotation(3, 7, 2, (1, 2, 5.5, 8))
    assert annotation["bbox"] == [1, 2, 4.5, 6] and annotation["area"] == 27
    assert [annotation[key] for key in ("id", "image_id", "category_id")] == [3, 7, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no xml", "a.xml is not an annotation of Pascal VOC"),
        ("<annotation/>", "<annotation> has no size/width"),
        (f"<annotation>{SIZE}<object>{BOX}</object></annotation>", "has no name"),
        (f"<annotation>{SIZE}<object><name>x</name></object></annotation>", "has no bndbox"),
        (f"<annotation>{SIZE.replace('64', 'wide')}</annotation>", "wide"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, content: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_voc(write(tmp_path, content))
