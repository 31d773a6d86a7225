"""The format of data is told by looking, and what fits none or several is one sentence."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from clq.data.formats.read import checksum, exists, last_change, read_annotations
from clq.data.formats.source import is_json, parse_source, resolve_data

XML = "<annotation/>"


def make(folder: Path, *files: str, content: str = "") -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png"):
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.write_text(content)
    return folder


def test_a_split_follows_a_colon(tmp_path: Path):
    assert parse_source(f"{tmp_path}:val") == (tmp_path, "val")
    for path in (tmp_path, tmp_path / "none.yaml:val"):
        assert parse_source(path) == (path, "")
    make(tmp_path, "a:b.json")
    assert parse_source(tmp_path / "a:b.json") == (tmp_path / "a:b.json", "")
    assert is_json("a.json") and is_json("a\0b") and not is_json(f"{tmp_path}:val")


@pytest.mark.parametrize(
    ("files", "images"),
    [
        (["Annotations/a.xml", "JPEGImages/a.jpg"], "JPEGImages"),
        (["annotations/a.xml", "images/a.jpg"], "images"),
        (["a.xml", "a.jpg"], "."),
        (["images/a.jpg", "labels/a.txt"], "images"),
        (["a.jpg", "a.txt"], "."),
        (["a.jpg", "classes.txt"], "."),
    ],
)
def test_folders(files: list[str], images: str, tmp_path: Path):
    make(tmp_path, *files)
    found = resolve_data(tmp_path)
    assert found == (tmp_path, tmp_path / images) == resolve_data(*found)
    assert resolve_data(tmp_path, tmp_path / "other").image_root == tmp_path / "other"
    assert exists(tmp_path) and not exists(tmp_path / "none")


@pytest.mark.parametrize("name", ["data.yaml", "data.yml", "cells.yaml"])
def test_a_yaml_in_a_folder(name: str, tmp_path: Path):
    make(tmp_path, "images/a.jpg", "labels/a.txt", "classes.txt", "other.yaml")
    make(tmp_path, name, content="names: [x]\ntrain: images\nval: images\n")
    assert resolve_data(tmp_path) == (Path(f"{tmp_path}/{name}:train"), tmp_path)
    files = resolve_data(tmp_path / name, role="val")
    assert files == (Path(f"{tmp_path}/{name}:val"), tmp_path) == resolve_data(*files, role="train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "DIR has neither a data.yaml, nor folders 'images' and 'labels' .*nor xml files"),
        (["images/a.jpg", "x/t.json"], "; name the JSON file, such as DIR/x/t.json, and its image"),
        (["a.xml", "labels/a.txt"], "of Pascal VOC by DIR and of YOLO by DIR/labels; name one"),
        (["images/test/a.jpg", "labels/a.txt"], "DIR has no split 'train'; it has test; name one"),
    ],
)
def test_what_fits_no_format_or_two(files: list[str], message: str, tmp_path: Path):
    make(tmp_path, *files)
    with pytest.raises(ValueError, match=message.replace("DIR", str(tmp_path))):
        resolve_data(tmp_path)


@pytest.mark.parametrize("name", ["none.yaml", "none", "none.json"])
def test_what_does_not_exist(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=f"^{tmp_path / name} does not exist.$"):
        resolve_data(tmp_path / name)


def test_what_can_not_be_meant(tmp_path: Path):
    with pytest.raises(
        ValueError, match="the name of the data is empty; the current folder is '.'"
    ):
        resolve_data("", tmp_path)
    make(tmp_path, "t.json", content="{}")
    message = "t.json is taken for a COCO json, which has no splits; leave ':val' out"
    with pytest.raises(ValueError, match=message):
        resolve_data(f"{tmp_path}/t.json:val", tmp_path)


def test_a_data_yaml_without_names_is_named(tmp_path: Path):
    make(tmp_path, "images/a.jpg", "labels/a.txt", "data.yaml", content="train: images\n")
    with pytest.raises(ValueError, match="data.yaml has no `names`"):
        resolve_data(tmp_path)


def test_one_of_two_formats_by_its_folder(tmp_path: Path):
    make(tmp_path, "images/a.jpg", "labels/a.txt", content="0 0.5 0.5 0.5 0.5")
    make(tmp_path, "Annotations/a.xml", content=XML)
    with pytest.raises(ValueError, match="; name one of these, and the image folder behind it"):
        resolve_data(tmp_path)
    xml = resolve_data(tmp_path / "Annotations", tmp_path / "images")
    assert read_annotations(*xml).content["annotations"] == []
    labels = resolve_data(tmp_path / "labels", tmp_path / "images")
    with pytest.raises(ValueError, match="nothing names the classes of .*/labels: write their"):
        read_annotations(*labels)
    make(tmp_path, "classes.txt", content="x")
    assert len(read_annotations(*labels).content["annotations"]) == 1
    with pytest.raises(ValueError, match="has neither a data.yaml"):
        resolve_data(tmp_path / "labels")


def test_without_a_role_the_only_split_is_taken(tmp_path: Path):
    yaml = tmp_path / "data.yaml"
    make(tmp_path, "a.jpg", "data.yaml", content="names: [x]\nval: .\n")
    assert resolve_data(yaml, role="").json_file == Path(f"{yaml}:val")
    yaml.write_text("names: [x]\nval: .\ntrain: .\n")
    with pytest.raises(ValueError, match="has several splits: train, val; name one of them, as in"):
        resolve_data(yaml, role="")


@pytest.mark.parametrize("place", ["", "images", "t", "../images", "../t"])
def test_images_are_looked_for_beside_a_json(place: str, tmp_path: Path):
    home = make(tmp_path / "annotations")
    home.mkdir()
    path = home / "instances_t.json"
    path.write_text(json.dumps({"images": [{"file_name": "a.jpg"}]}))
    with pytest.raises(ValueError, match="name their folder behind it.$"):
        resolve_data(path)
    assert resolve_data(path, needs_images=False) == (path, Path())
    make(home / place, "a.jpg")
    assert resolve_data(path).image_root.resolve() == (home / place).resolve()
    make(home / "images", "a.jpg")
    if place != "images":
        with pytest.raises(ValueError, match="; they may be in "):
            resolve_data(path)


def test_what_tells_a_change(tmp_path: Path):
    make(tmp_path, "images/a.jpg", "labels/a.txt", content="0 0.5 0.5 0.5 0.5")
    make(tmp_path, "classes.txt", content="x")
    files = resolve_data(tmp_path)
    before = checksum(*files)
    label = tmp_path / "labels" / "a.txt"
    assert checksum(*files) == before and last_change(*files) >= label.stat().st_mtime
    label.write_text("0 0.5 0.5 0.5 0.25")
    assert checksum(*files) != before
    assert last_change(tmp_path / "none.json") == 0


@pytest.mark.parametrize("homes", [("images", "labels"), ("JPEGImages", "Annotations")])
@pytest.mark.parametrize("change", ["rename", "delete", "add"])
def test_files_that_come_or_go_are_a_change(
    homes: tuple[str, str], change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    suffix = "txt" if homes[1] == "labels" else "xml"
    make(Path(), *(f"{homes[0]}/{stem}.jpg" for stem in "abc"), "classes.txt", content="x")
    make(Path(), *(f"{homes[1]}/{stem}.{suffix}" for stem in "ab"), content=XML)
    for path in tmp_path.rglob("*"):
        os.utime(path, (1000, 1000))
    files = resolve_data(tmp_path)
    assert last_change(*files) == 1000
    label = Path(homes[1], f"a.{suffix}")
    if change == "rename":
        label.rename(label.with_stem("c"))
    elif change == "delete":
        label.unlink()
    else:  # a file that is as old as the others
        shutil.copy2(label, label.with_stem("c"))
    assert last_change(*files) > 1000
