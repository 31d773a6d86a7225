"""Pascal VOC folders: images, splits, classes, and what is told of files that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clq.data.coco.validate import load_and_validate
from clq.data.formats.content import Annotations
from clq.data.formats.read import read_annotations
from clq.data.formats.source import resolve_data
from reference.formats import write_xml

SIZE = {"width": 40, "height": 20}
BOX = [3.0, 5.0, 10.0, 12.5]  # x, y, width, height
NAMES = ("a.jpg", "a.b.jpg", "a b.png", "img.jpg", "img.jpg.jpg", "img1.jpg", "img[1].jpg")


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path, format="PNG")


def add(
    folder: Path,
    name: str,
    *classes: str,
    more: str = "",
    file_name: str = "",
    places: tuple[str, str] = ("JPEGImages", "Annotations"),
) -> Path:
    """Add an image, and its xml with an object of each class."""
    save(folder / places[0] / name)
    (folder / places[1]).mkdir(parents=True, exist_ok=True)
    objects = [(class_name, BOX) for class_name in classes]
    path = write_xml(folder / places[1], {"file_name": name, **SIZE}, objects, more)
    if file_name:
        path.write_text(path.read_text().replace(f">{name}<", f">{file_name}<"))
    return path


def read(folder: Path, role: str = "train") -> tuple[Annotations, dict[str, int], list[str]]:
    """The content, the number of objects by file name, and kinds and examples of findings."""
    found = read_annotations(*resolve_data(folder, role=role))
    names = {image["id"]: image["file_name"] for image in found.content["images"]}
    counts = dict.fromkeys(names.values(), 0)
    for annotation in found.content["annotations"]:
        counts[names[annotation["image_id"]]] += 1
    return found, counts, [f"{f.kind}: {example}" for f in found.findings for example in f.examples]


@pytest.mark.parametrize(
    "places", [("JPEGImages", "Annotations"), ("images", "annotations"), (".", ".")]
)
def test_each_image_keeps_its_own_objects(places: tuple[str, str], tmp_path: Path):
    for count, name in enumerate(NAMES):
        add(tmp_path, name, *["x"] * count, places=places)
    for name in ("._a.jpg", "._a.xml", ".DS_Store", "Thumbs.db", "a.xml.bak"):
        (tmp_path / places[1] / name).write_text("x")
    found, counts, told = read(tmp_path)
    assert counts == dict(sorted(zip(NAMES, range(len(NAMES))))) and told == []
    assert found.content["annotations"][0]["bbox"] == [3, 5, 10, 12.5]
    json.dumps(found.content, allow_nan=False)


def test_splits_are_lists(tmp_path: Path):
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    for name, kind in (("a b.jpg", "y"), ("c.jpg", "x"), ("d.png", "z")):
        add(tmp_path, name, kind)
    (sets / "trainval.txt").write_text("a b\nc\n\n")
    (sets / "cat_trainval.txt").write_text("a b  1\nc -1\n")
    (sets / "test.txt").write_text("d\n")
    found, counts, told = read(tmp_path)
    assert (counts, told) == ({"a b.jpg": 1, "c.jpg": 1}, [])
    val, counts, _ = read(tmp_path, role="val")
    assert counts == {"d.png": 1}
    # The classes are those of all xml files, so that they are the same in both.
    assert val.content["categories"] == found.content["categories"]
    assert [c["name"] for c in val.content["categories"]] == ["x", "y", "z"]
    (sets / "train.txt").write_text("c\n")
    assert read(tmp_path)[1] == {"c.jpg": 1}
    named = resolve_data(f"{tmp_path}:trainval")
    assert len(read_annotations(*named).content["images"]) == 2 and resolve_data(*named) == named
    with pytest.raises(ValueError, match="has no ImageSets/Main/mini.txt"):
        read_annotations(*resolve_data(f"{tmp_path}:mini"))
    for name in ("trainval", "train"):
        (sets / f"{name}.txt").unlink()
    message = f"has neither train.txt nor trainval.txt; name one .* as in {tmp_path}:test"
    with pytest.raises(ValueError, match=message):
        resolve_data(tmp_path)


def test_lists_with_suffixes_or_flags(tmp_path: Path):
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for name in ("a.jpg", "a.b.jpg", "c 1.jpg", "d.jpg"):
        add(tmp_path, name, "x")
    train = tmp_path / "ImageSets" / "Main" / "train.txt"
    train.write_text("a.jpg\na.b\nc 1\nd.xml\n")
    _, counts, told = read(tmp_path)
    assert list(counts) == ["a.b.jpg", "a.jpg", "c 1.jpg", "d.jpg"] and told == []
    train.write_text("a  1\nd -1\n")
    with pytest.raises(ValueError, match="train.txt lists the images of a class, with 1 behind a;"):
        read(tmp_path)


@pytest.mark.parametrize("places", [("JPEGImages", "Annotations"), (".", ".")])
def test_subfolders_are_part_of_the_stem(places: tuple[str, str], tmp_path: Path):
    for count, name in enumerate(("a.jpg", "cam1/a.jpg", "cam2/a.jpg", "cam2/b.jpg")):
        sub = Path(name).parent
        below = (str(places[0] / sub), str(places[1] / sub))
        add(tmp_path, Path(name).name, *["x"] * count, places=below)
    # An xml of another stem names its image, of which another subfolder has the same name.
    (tmp_path / places[1] / "cam2" / "a.xml").rename(tmp_path / places[1] / "cam2" / "0.xml")
    _, counts, told = read(tmp_path)
    assert counts == {"a.jpg": 0, "cam1/a.jpg": 1, "cam2/a.jpg": 2, "cam2/b.jpg": 3}
    assert told == []
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("cam1/a\ncam2/b.jpg\n")
    assert read(tmp_path)[1] == {"cam1/a.jpg": 1, "cam2/b.jpg": 3}


def test_subfolders_alone_are_pascal_voc(tmp_path: Path):
    add(tmp_path, "a.jpg", "x", places=("images/cam1", "annotations/cam1"))
    save(tmp_path / "images" / "cam2" / "b.jpg")
    _, counts, told = read(tmp_path)
    assert counts == {"cam1/a.jpg": 1, "cam2/b.jpg": 0}
    assert told == [f"no_xml: {tmp_path / 'images' / 'cam2' / 'b.jpg'} has no xml file"]


def test_pictures_below_images_beside_their_xml_are_no_data(tmp_path: Path):
    add(tmp_path, "a.jpg", "x", places=(".", "."))
    save(tmp_path / "output" / "a.png")
    assert read(tmp_path)[1:] == ({"a.jpg": 1}, [])


def test_a_listed_image_that_is_missing(tmp_path: Path):
    add(tmp_path, "a.jpg", "x")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    _, counts, told = read(tmp_path)
    assert counts == {"a.jpg": 1} and told == ["missing_image: image b does not exist"]


def test_the_stem_comes_before_the_file_name(tmp_path: Path):
    add(tmp_path, "a.jpg", "x", file_name="b.jpg")
    add(tmp_path, "b.jpg", "x", "x", file_name=r"C:\old\b.jpg")
    add(tmp_path, "c.jpg", file_name="c")
    _, counts, told = read(tmp_path)
    assert counts == {"a.jpg": 1, "b.jpg": 2, "c.jpg": 0}
    xml_file = tmp_path / "Annotations" / "a.xml"
    assert told == [f"other_file_name: {xml_file} names b.jpg, but has the stem of a.jpg"]


def test_the_file_name_finds_an_image_without_an_xml_of_its_own(tmp_path: Path):
    add(tmp_path, "0001.jpg", "x", file_name="photo.jpg")
    (tmp_path / "JPEGImages" / "0001.jpg").rename(tmp_path / "JPEGImages" / "photo.jpg")
    assert read(tmp_path)[1:] == ({"photo.jpg": 1}, [])
    other = add(tmp_path, "photo.jpg", "x", "x")
    _, counts, told = read(tmp_path)
    assert counts == {"photo.jpg": 2} and len(told) == 2
    assert told[0].startswith("two_label_files: ") and str(other) in told[0]


def test_files_without_a_partner_are_told(tmp_path: Path):
    xml_file = add(tmp_path, "a.jpg", "x")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    save(tmp_path / "JPEGImages" / "b.jpg")
    found, counts, told = read(tmp_path)
    assert counts == {"b.jpg": 0} and not any(finding.is_error for finding in found.findings)
    assert told == [
        f"label_without_image: {xml_file} has no image of its stem",
        f"no_xml: {tmp_path / 'JPEGImages' / 'b.jpg'} has no xml file",
    ]


def test_two_images_of_one_stem_are_named(tmp_path: Path):
    add(tmp_path, "a.jpg", "x")
    save(tmp_path / "JPEGImages" / "a.png")
    first, second = (tmp_path / "JPEGImages" / name for name in ("a.jpg", "a.png"))
    expected = f"same_stem: {second} has the stem of {first}, too: rename one of them"
    assert read(tmp_path)[2] == [expected]


def test_a_difficult_object_is_ignored_like_a_crowd(tmp_path: Path):
    add(tmp_path, "a.jpg", "x", more="<difficult>1</difficult>")
    add(tmp_path, "b.jpg", "x", more="<difficult>0</difficult>")
    table = load_and_validate(*resolve_data(tmp_path))
    assert table.is_crowd.tolist() == [True, False] and table.is_trained_on().tolist() == [
        False,
        True,
    ]


def test_classes_may_be_listed(tmp_path: Path):
    xml_file = add(tmp_path, "a.jpg", "x", "z")
    (tmp_path / "labels.txt").write_text("z\ny\n")
    found, counts, told = read(tmp_path)
    assert [c["name"] for c in found.content["categories"]] == ["z", "y"] and counts == {"a.jpg": 1}
    assert told == [f"unknown_class: {xml_file} has the class 'x', which the list of classes lacks"]


def test_a_size_that_the_xml_lacks_is_that_of_the_image(tmp_path: Path):
    xml_file = add(tmp_path, "a.jpg", "x")
    xml_file.write_text(xml_file.read_text().replace(">40<", ">0<"))
    image = read(tmp_path)[0].content["images"][0]
    assert (image["width"], image["height"]) == (40, 20)


def test_damaged_files_are_all_named(tmp_path: Path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        xml_file = add(tmp_path, name, "x")
        if name != "c.jpg":
            xml_file.write_text(xml_file.read_text()[:-30])
    table = load_and_validate(*resolve_data(tmp_path))
    (error,) = table.errors
    assert error.kind == "bad_xml" and error.count == 2
    expected = f"{tmp_path}/Annotations/a.xml is not an annotation of Pascal VOC: "
    assert str(error.examples[0]).startswith(expected)
    np.testing.assert_array_equal(table.boxes, [BOX])
