"""Names of a json that other systems and tools write otherwise than the folder does."""

import json
from pathlib import Path

import pytest

from clq.data.coco.file_names import hint_at_file
from clq.data.coco.register import register_coco_json
from reference.tiny import write_pair


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a%20b.jpg", "a b.jpg"),  # of an address
        ("A.JPG", "a.jpg"),  # of a system that ignores case
        ("/a.jpg", "a.jpg"),
        ("/home/other/images/a.jpg", "a.jpg"),  # of another machine
        (r"C:\images\a.jpg", "a.jpg"),
        ("images/a.jpg", "a.jpg"),  # the folder is named twice
        ("a.jpg", "train/a.jpg"),  # or not at all
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),  # of a Mac
        ("a.jpg ", "a.jpg"),
        ("a.png", "a.jpg"),  # converted
        ("a", "a.jpg"),
    ],
)
def test_a_missing_name_leads_to_the_file(name: str, file: str, tmp_path: Path):
    (tmp_path / "other.jpg").touch()
    assert hint_at_file(tmp_path, name) == ""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert hint_at_file(tmp_path, name) == f"; if it is {file}, write that as its file_name"


def test_the_same_suffix_goes_before_another(tmp_path: Path):
    for file in ("A.png", "A.JPG", "A.txt"):
        (tmp_path / file).touch()
    assert "A.JPG" in hint_at_file(tmp_path, "a.jpg")


def test_the_refusal_names_the_file(tmp_path: Path):
    pair = write_pair(tmp_path, "train", num_images=2, seed=0)
    content = pair.content
    for image in content["images"]:
        image["file_name"] = f"/elsewhere/{image['file_name']}"
    pair.json_file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"lists first; if it is 0\.png, write that"):
        register_coco_json("file_names", *pair)
