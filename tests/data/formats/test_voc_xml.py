"""Pascal VOC's xml: what is read, and what is refused."""

from pathlib import Path

import pytest

from clq.data.formats.voc_xml import VocImage, read_voc

SIZE = "<size><width>64</width><height>48</height></size>"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5.5</xmax><ymax>8</ymax></bndbox>"


def write(folder: Path, content: str) -> Path:
    (folder / "a.xml").write_text(content)
    return folder / "a.xml"


def test_numbers_are_taken_as_they_stand(tmp_path: Path):
    path = write(tmp_path, f"<annotation>{SIZE}<object><name>x</name>{BOX}</object></annotation>")
    assert read_voc(path) == (64, 48, [("x", (1, 2, 5.5, 8), False)], "")


def test_what_may_be_missing(tmp_path: Path):
    assert read_voc(write(tmp_path, "<annotation/>")) == VocImage(0, 0, [])
    zero = SIZE.replace("64", "0")
    assert read_voc(write(tmp_path, f"<annotation>{zero}</annotation>")).width == 0


@pytest.mark.parametrize(
    ("difficult", "expected"),
    [
        *(("0", False), ("", False), ("False", False), ("Unspecified", False)),
        *(("1", True), (" 1 ", True), ("true", True)),
    ],
)
def test_difficult_objects_are_marked(tmp_path: Path, difficult: str, expected: bool):
    entry = f"<object><name>x</name><difficult>{difficult}</difficult>{BOX}</object>"
    (found,) = read_voc(write(tmp_path, f"<annotation>{entry}</annotation>")).objects
    assert found.is_difficult is expected


def test_file_name_is_the_last_part(tmp_path: Path):
    text = r"<annotation><filename> C:\\old\\a b.jpg </filename></annotation>".replace("\\\\", "\\")
    assert read_voc(write(tmp_path, text)).file_name == "a b.jpg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "<annotation><object><name>x</name><difficult>2</difficult>"
            f"{BOX}</object></annotation>",
            "its difficult is '2', neither 0 nor 1",
        ),
        ("<svg/>", "is not an annotation of Pascal VOC: its root is <svg>, not <annotation>.$"),
        ("no xml", "a.xml is not an annotation of Pascal VOC"),
        (f"<annotation>{SIZE}<object>{BOX}</object></annotation>", "<object> has no name"),
        ("<annotation><object><name>x</name></object></annotation>", "'x' has no bndbox"),
        (f"<annotation>{SIZE.replace('64', 'wide')}</annotation>", "is 'wide', no finite number"),
        (f"<annotation>{SIZE.replace('64', '6.5')}</annotation>", "its width is 6.5 pixels"),
        (
            f"<annotation><object><name>x</name>{BOX.replace('5.5', 'nan')}</object></annotation>",
            "the xmax of <bndbox> is 'nan', no finite number",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_voc(write(tmp_path, content))


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(ValueError, match=f"{tmp_path} is no file"):
        read_voc(tmp_path)
