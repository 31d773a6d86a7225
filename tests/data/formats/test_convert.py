"""What `clq convert-data` and `clq split` write, and what they leave alone."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clq.cli.main import main
from clq.data.coco.validate import load_and_validate
from clq.data.formats.convert import convert_data, split_data
from clq.data.formats.source import resolve_data
from reference.formats import write_voc, write_yolo
from reference.tiny import Pair, write_pair

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_pair(tmp_path_factory.mktemp("data"), "data", num_images=20, seed=4)


def objects(content: dict[str, Any]) -> dict[str, list[tuple[str, list[float]]]]:
    """Class names and boxes by the last part of the image's name."""
    classes = {category["id"]: category["name"] for category in content["categories"]}
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    found: dict[str, list] = {name: [] for name in names.values()}
    for a in content["annotations"]:
        found[names[a["image_id"]]].append((classes[a["category_id"]], a["bbox"]))
    return found


@pytest.mark.parametrize("write", [write_yolo, write_voc])
def test_there_and_back(
    write: Callable[[Pair, Path], Path], pair: Pair, tmp_path: Path, capsys: Capture
):
    source = write(pair, tmp_path / "other")
    main(["convert-data", str(source), str(tmp_path / "out.json")])
    content = json.loads((tmp_path / "out.json").read_text())
    assert objects(content) == objects(pair.content)
    assert f"{tmp_path}/out.json: 20 images, 57 boxes, 3 classes; " in capsys.readouterr().out
    names = [image["file_name"] for image in content["images"]]
    assert names == sorted(names) and [i["id"] for i in content["images"]] == list(range(1, 21))


def test_a_coco_json_is_normalized(pair: Pair, tmp_path: Path):
    content = pair.content
    content["info"] = {"year": 2020}
    content["images"][0].update(width="96", height=64.0)
    content["annotations"][0]["bbox"] = list(map(str, content["annotations"][0]["bbox"]))
    path = tmp_path / "text.json"
    path.write_text(json.dumps(content), encoding="utf-16")
    convert_data(resolve_data(path, pair.images), tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written == {**pair.content, "info": {"year": 2020}}


def test_what_reading_found_is_told(pair: Pair, tmp_path: Path):
    source = write_yolo(pair, tmp_path)
    label = tmp_path / "labels" / "train" / "of no image.txt"
    label.write_text("0 0.5 0.5 0.5 0.5")
    _, warning = convert_data(resolve_data(source), tmp_path / "out.json")
    assert warning.startswith("WARNING [label_without_image] label files without an image: 1; ")
    assert str(label) in warning


@pytest.mark.parametrize(
    ("damage", "out", "message"),
    [
        ("", "taken.json", "taken.json exists already; name another file"),
        ("", "out", "out must end in .json"),
        ("0 0.5", "out.json", "line 1 of .*labels/train/0.txt in .* has 2 numbers instead of 5"),
    ],
)
def test_nothing_is_written_by_mistake(
    damage: str, out: str, message: str, pair: Pair, tmp_path: Path
):
    source = write_yolo(pair, tmp_path)
    (tmp_path / "taken.json").write_text("mine")
    if damage:
        (tmp_path / "labels" / "train" / "0.txt").write_text(damage)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(SystemExit, match=message):
        main(["convert-data", str(source), str(tmp_path / out)])
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "taken.json").read_text() == "mine"


def split(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / name).read_text()) for name in ("train.json", "val.json")]


def add_copies(pair: Pair, folder: Path) -> Pair:
    """Copy a data set, with a darker copy of each image under another name and no objects."""
    content = pair.content
    (folder / "data").mkdir(parents=True)
    for image in list(content["images"]):
        with Image.open(pair.images / image["file_name"]) as file:
            file.save(folder / "data" / image["file_name"])
            file.point(lambda value: value * 0.8).save(
                folder / "data" / f"copy{image['file_name']}"
            )
        entry = {"id": image["id"] + 1000, "file_name": f"copy{image['file_name']}"}
        content["images"].append({**image, **entry})
    (folder / "data.json").write_text(json.dumps(content))
    return Pair(folder / "data.json", folder / "data")


def test_a_split_keeps_everything_and_copies_together(pair: Pair, tmp_path: Path, capsys: Capture):
    copied = add_copies(pair, tmp_path / "in")
    main(["split", str(copied.json_file), "--val", "0.25"])  # the images are found beside it
    told = capsys.readouterr().out
    train, val = split(tmp_path / "in")
    names = [{image["file_name"] for image in part["images"]} for part in (train, val)]
    assert not names[0] & names[1] and len(names[1]) == 10
    for part in names:
        assert {f"copy{name}" for name in part if name[0] != "c"} == {
            n for n in part if n[0] == "c"
        }
    whole = objects(copied.content)
    assert objects(train) | objects(val) == whole
    assert train["categories"] == val["categories"] == copied.content["categories"]
    assert "40 images are near-identical to others, in 20 groups of up to 2; each" in told
    counts = [len(part["annotations"]) // 3 for part in (train, val)]
    rows = [line.split() for line in told.splitlines()]
    assert ["bar", *map(str, counts), f"{counts[1] / sum(counts):.1%}"] in rows
    command = (
        f"clq train --train {tmp_path}/in/train.json {copied.images} --val {tmp_path}/in/val.json"
    )
    assert f"{command} {copied.images}\n" in told


@pytest.mark.parametrize("has_objects", [True, False])
def test_a_root_of_the_classes_is_a_class_on_both_sides_or_none(
    has_objects: bool, pair: Pair, tmp_path: Path
):
    content = pair.content
    root, *others = content["categories"]
    for category in others:
        category["supercategory"] = root["name"]
    rest = [a for a in content["annotations"] if a["category_id"] != root["id"]]
    single = [{**rest[0], "category_id": root["id"]}] if has_objects else []  # on one side alone
    content["annotations"] = single + rest[1:]
    (tmp_path / "data.json").write_text(json.dumps(content))
    files = resolve_data(tmp_path / "data.json", pair.images)
    split_data(files, 0.3, tmp_path)
    names = sorted(c["name"] for c in (content["categories"] if has_objects else others))
    tables = [load_and_validate(tmp_path / name) for name in ("train.json", "val.json")]
    assert [sorted(table.class_names) for table in tables] == [names, names]


def test_splits_repeat_and_nothing_is_replaced(pair: Pair, tmp_path: Path):
    source = write_voc(pair, tmp_path / "voc")
    arguments = ["split", str(source), "--val", "0.3", "--output"]
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        main([*arguments, str(tmp_path / name), "--seed", seed])
    assert split(tmp_path / "a") == split(tmp_path / "b") != split(tmp_path / "c")
    (tmp_path / "b" / "train.json").unlink()
    with pytest.raises(SystemExit, match="b/val.json exists already; name another folder by --out"):
        main([*arguments, str(tmp_path / "b")])
    assert os.listdir(tmp_path / "b") == ["val.json"]


def test_without_images_that_is_told(pair: Pair, tmp_path: Path, capsys: Capture):
    path = tmp_path / "alone.json"
    path.write_text(pair.json_file.read_text())
    main(["split", str(path), "--val", "0.2"])
    told = capsys.readouterr().out
    assert "WARNING the images were not found, so that near-identical ones may" in told
    assert "val.json IMAGES\n" in told and len(split(tmp_path)[1]["images"]) == 4
    with pytest.raises(SystemExit, match="image folder .*nowhere does not exist"):
        main(
            [
                "split",
                str(path),
                f"{tmp_path}/nowhere",
                "--val",
                "0.2",
                "--output",
                str(tmp_path / "new"),
            ]
        )


@pytest.mark.parametrize("share", [0, 1, -0.2, np.nan])
def test_a_share_lies_between_0_and_1(share: float, pair: Pair, tmp_path: Path):
    with pytest.raises(ValueError, match=rf"--val is {share:g}; it must lie between 0 and 1"):
        split_data(resolve_data(*pair), share, tmp_path)
    assert not any(tmp_path.iterdir())


def test_both_files_are_written_or_none(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from clq.data.formats import convert

    write = convert.write_atomically

    def fail_at_val(path: Path, content: bytes) -> None:
        if path.name == "val.json":
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(convert, "write_atomically", fail_at_val)
    with pytest.raises(OSError, match="No space left"):
        split_data(resolve_data(*pair), 0.2, tmp_path)
    assert not any(tmp_path.iterdir())


def test_images_of_one_group_are_split_on_demand(pair: Pair, tmp_path: Path):
    (tmp_path / "images").mkdir()
    content = pair.content
    for image in content["images"]:
        Image.new("RGB", (image["width"], image["height"])).save(
            tmp_path / "images" / image["file_name"]
        )
    (tmp_path / "data.json").write_text(json.dumps(content))
    arguments = ["split", str(tmp_path / "data.json"), "--val", "0.2"]
    with pytest.raises(SystemExit, match="all images are near-identical.*; --no-compare splits"):
        main(arguments)
    assert not (tmp_path / "train.json").exists()
    main([*arguments, "--no-compare"])
    assert len(split(tmp_path)[1]["images"]) == 4
