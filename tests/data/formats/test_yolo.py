"""YOLO data sets: which label belongs to which image, and what is told of the others."""

import json
from pathlib import Path

import pytest
from PIL import Image

from clq.data.coco.validate import load_and_validate
from clq.data.formats.read import read_annotations
from clq.data.formats.source import resolve_data

LINE = "0 0.5 0.5 0.5 0.5\n"
# Names that confuse: dots, spaces, brackets, one a prefix of another, two suffixes.
NAMES = ("a.jpg", "a.b.jpg", "a b.png", "img.jpg", "img.jpg.jpg", "img1.jpg", "img[1].jpg", "ä.JPG")


def touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def save(path: Path, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, format="PNG")


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A data.yaml, and a training image a.jpg without a label file."""
    save(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    touch(tmp_path / "data.yaml", "names: [x, y]\ntrain: images/train\n")
    return tmp_path


def read(source: Path, *images: Path) -> tuple[dict[str, int], list[str]]:
    """Number of objects by file name, and the kinds and examples of all findings."""
    files = resolve_data(source, *images)
    content, findings = read_annotations(*files)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    counts = dict.fromkeys(names.values(), 0)
    for annotation in content["annotations"]:
        counts[names[annotation["image_id"]]] += 1
    told = [f"{f.kind}: {example}" for f in findings for example in f.examples]
    return counts, told


@pytest.mark.parametrize("is_beside", [False, True])
def test_each_image_keeps_its_own_labels(is_beside: bool, yolo: Path):
    images, labels = yolo / "images" / "train", yolo / "labels" / "train"
    for count, name in enumerate(NAMES):
        save(images / name)
        if count:
            folder = images if is_beside else labels
            touch((folder / name).with_suffix(".txt"), LINE * count)
    counts, told = read(yolo)
    assert counts == {f"images/train/{name}": count for count, name in enumerate(NAMES)}
    assert told == [] and list(counts) == sorted(counts)


def test_sidecar_files_are_ignored(yolo: Path):
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "notes.md"):
        touch(yolo / "images" / "train" / name, "x")
    for name in ("a.txt.bak", "classes.txt", "._a.txt", ".DS_Store", "README.txt", "labels.cache"):
        touch(yolo / "labels" / "train" / name, "see the web page")
    assert read(yolo) == ({"images/train/a.jpg": 0}, [])


def test_the_last_images_folder_is_replaced(tmp_path: Path):
    home = tmp_path / "images" / "set"
    save(home / "images" / "images" / "a.jpg")
    touch(home / "images" / "labels" / "a.txt", LINE)
    touch(home / "data.yaml", "names: [x]\ntrain: images/images")
    assert read(home) == ({"images/images/a.jpg": 1}, [])


def test_two_images_of_one_stem_are_named(yolo: Path):
    save(yolo / "images" / "train" / "a.png")
    folder = yolo / "images" / "train"
    expected = f"same_stem: image {folder / 'a.png'} has the stem of {folder / 'a.jpg'}, too"
    assert read(yolo)[1] == [f"{expected}: rename one of them"]
    assert load_and_validate(*resolve_data(yolo)).errors


def test_two_labels_of_one_image_are_named(yolo: Path):
    for folder in ("images", "labels"):
        touch(yolo / folder / "train" / "a.txt", LINE)
    (told,) = read(yolo)[1]
    assert told.startswith("two_label_files: image ") and told.count("a.txt") == 2


def test_labels_without_image_are_told(yolo: Path):
    touch(yolo / "labels" / "train" / "b.txt", LINE)
    touch(yolo / "labels" / "train" / "deep" / "a.jpg.txt", LINE)
    counts, told = read(yolo)
    folder = yolo / "labels" / "train"
    assert counts == {"images/train/a.jpg": 0}
    assert told == [
        f"label_without_image: label file {folder / name} has no image of its stem"
        for name in ("b.txt", "deep/a.jpg.txt")
    ]
    table = load_and_validate(*resolve_data(yolo))
    assert not table.errors and [w.count for w in table.warnings] == [2]


def test_wrong_lines_name_file_and_line(yolo: Path):
    file = yolo / "labels" / "train" / "a.txt"
    touch(file, f"{LINE}\n9 0.5 0.5 0.5 0.5\n0 0.5\n")
    counts, told = read(yolo)
    assert counts == {"images/train/a.jpg": 1}
    assert [text.split(" has ")[0] for text in told] == [
        f"bad_label_line: line {n} of {file}" for n in (3, 4)
    ]
    file.write_bytes(b"\xff\xfe0 0.5")
    assert read(yolo)[1] == [
        f"bad_label: label file {file} can't be read (is no text in UTF-8 (invalid start byte))"
    ]


def test_a_byte_order_mark_and_other_line_ends(yolo: Path):
    (yolo / "labels" / "train" / "a.txt").write_bytes(b"\xef\xbb\xbf" + LINE.encode() + b"\r\n\r\n")
    assert read(yolo) == ({"images/train/a.jpg": 1}, [])


def test_labels_of_a_turned_photograph_follow_the_upright_image(yolo: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(yolo / "images" / "train" / "a.jpg", exif=exif)
    touch(yolo / "labels" / "train" / "a.txt", LINE)
    content, _ = read_annotations(*resolve_data(yolo))
    assert content["annotations"][0]["bbox"] == [5, 10, 10, 20]


def test_unreadable_and_missing_images_are_errors(yolo: Path):
    touch(yolo / "images" / "train" / "b.jpg", "x")
    touch(yolo / "list.txt", "./images/train/a.jpg\nimages/train/b.jpg\n\nimages/train/c.jpg\n")
    touch(yolo / "data.yaml", "names: [x, y]\ntrain: list.txt\n")
    counts, told = read(yolo)
    assert counts == {"images/train/a.jpg": 0}
    folder = yolo / "images" / "train"
    assert told == [
        f"unreadable_image: image {folder / 'b.jpg'} can't be read (it is no image)",
        f"missing_image: image {folder / 'c.jpg'} does not exist",
    ]


def test_a_folder_with_classes_txt_and_splits(tmp_path: Path):
    for split, count in (("train", 1), ("valid", 2)):
        save(tmp_path / "images" / split / "a.png")
        touch(tmp_path / "labels" / split / "a.txt", LINE * count)
    with pytest.raises(ValueError, match=f"nothing names the classes of {tmp_path}: .*classes.txt"):
        read_annotations(*resolve_data(tmp_path))
    touch(tmp_path / "classes.txt", "x\ny z\n\n")
    assert read(tmp_path)[0] == {"train/a.png": 1}
    files = resolve_data(tmp_path, role="val")
    content = read_annotations(*files).content
    assert str(files.json_file) == f"{tmp_path}:val" and files == resolve_data(*files)
    assert [image["file_name"] for image in content["images"]] == ["valid/a.png"]
    assert [category["name"] for category in content["categories"]] == ["x", "y z"]


def test_labels_and_images_in_folders_of_any_name(tmp_path: Path):
    save(tmp_path / "photographs" / "deep" / "a.png")
    touch(tmp_path / "boxes" / "deep" / "a.txt", LINE)
    touch(tmp_path / "boxes" / "classes.txt", "x")
    assert read(tmp_path / "boxes", tmp_path / "photographs") == ({"deep/a.png": 1}, [])


def test_everything_in_one_folder(tmp_path: Path):
    save(tmp_path / "a.png")
    touch(tmp_path / "a.txt", LINE)
    touch(tmp_path / "classes.txt", "x")
    assert read(tmp_path) == ({"a.png": 1}, [])


def test_a_json_of_the_result_is_strict(yolo: Path):
    touch(yolo / "labels" / "train" / "a.txt", LINE)
    content = read_annotations(*resolve_data(yolo)).content
    assert json.loads(json.dumps(content, allow_nan=False)) == {
        "images": [{"id": 1, "file_name": "images/train/a.jpg", "width": 40, "height": 20}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [10, 5, 20, 10],
                "area": 200,
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
    }


def test_a_changed_label_is_read_anew(yolo: Path):
    files = resolve_data(yolo)
    assert len(load_and_validate(*files).boxes) == 0
    touch(yolo / "labels" / "train" / "a.txt", LINE)
    assert len(load_and_validate(*files).boxes) == 1
