"""The demo data. The photographs come through pip once and then from the cache."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from clq.data import demo_trees
from clq.data.demo_trees import TREE_SPLITS, prepare_trees, register_trees
from clq.utils.wheel_download import fetch_from_wheel
from reference.forks import ForkedProgram

COUNTS = {"train": (36, 592), "test": (9, 285), "test_other_sites": (2, 98)}


def content(split: str) -> dict:
    return json.loads(prepare_trees()[split].json_file.read_text())


def photograph(name: str) -> np.ndarray:
    member = f"deepforest/data/{name}.png"
    path = fetch_from_wheel(demo_trees._WHEEL, demo_trees._WHEEL_SHA256, [member])[member]
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("split", COUNTS)
def test_counts(split: str) -> None:
    data = content(split)
    assert (len(data["images"]), len(data["annotations"])) == COUNTS[split]
    assert data["categories"] == [{"id": 1, "name": "Tree"}]


@pytest.mark.parametrize("split", COUNTS)
def test_boxes_lie_inside_their_tiles(split: str) -> None:
    data = content(split)
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert x >= 0 and y >= 0 and width > 0 and height > 0
        assert x + width <= sizes[annotation["image_id"]][0]
        assert y + height <= sizes[annotation["image_id"]][1]
        assert annotation["area"] == width * height
    assert len({annotation["id"] for annotation in data["annotations"]}) == COUNTS[split][1]


@pytest.mark.parametrize("split", COUNTS)
def test_tiles_cover_the_photographs_without_overlap(split: str) -> None:
    files = prepare_trees()[split]
    seen = {name: np.zeros_like(photograph(name)) for name in TREE_SPLITS[split].photographs}
    times = {name: np.zeros(image.shape[:2], dtype=int) for name, image in seen.items()}
    for entry in content(split)["images"]:
        tile = np.asarray(Image.open(files.image_root / entry["file_name"]))
        assert tile.shape == (entry["height"], entry["width"], 3)
        assert 340 <= min(tile.shape[:2]) and max(tile.shape[:2]) <= 420
        name, x, y = Path(entry["file_name"]).stem.rsplit("_", 2)
        where = np.s_[int(y) : int(y) + entry["height"], int(x) : int(x) + entry["width"]]
        seen[name][where] = tile
        times[name][where] += 1
    for name, image in seen.items():
        assert (times[name] == 1).all()
        assert (image == photograph(name)).all()


def test_untiled_boxes_are_the_numbers_of_the_xml() -> None:
    data = content("test_other_sites")
    first = next(image for image in data["images"] if image["file_name"].startswith("OSBS_029"))
    boxes = [anno["bbox"] for anno in data["annotations"] if anno["image_id"] == first["id"]]
    assert len(boxes) == 61
    assert boxes[0] == [203, 67, 227 - 203, 90 - 67]


def test_tile_edges() -> None:
    tiles = demo_trees._tiles(1249, 1035)
    assert [tile[0] for tile in tiles[:3]] == [0, 416, 832]
    assert tiles[-1] == (832, 690, 1249, 1035)
    assert demo_trees._tiles(100, 30) == [(0, 0, 100, 30)]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((110, 210, 120, 230), [(10, 10, 20, 30)]),  # inside
        ((94, 210, 104, 220), [(0, 10, 4, 20)]),  # 40 % visible is enough
        ((93, 210, 103, 220), []),  # 30 %
        ((196, 296, 206, 301), []),  # a corner: 0.4 * 0.8
        ((300, 400, 310, 410), []),  # elsewhere, both differences negative
    ],
)
def test_clipping(box: demo_trees.Box, expected: list[demo_trees.Box]) -> None:
    assert demo_trees._clip([box], (100, 200, 200, 300)) == expected


def test_unknown_class_is_an_error(tmp_path: Path) -> None:
    corners = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
    bush = f"<object><name>Bush</name><bndbox>{corners}</bndbox></object>"
    size = "<size><width>9</width><height>9</height></size>"
    (tmp_path / "a.xml").write_text(f"<annotation>{size}{bush}</annotation>")
    with pytest.raises(ValueError, match="Bush"):
        demo_trees._read_boxes(tmp_path / "a.xml")


def test_registration_touches_neither_network_nor_disk(tmp_path: Path) -> None:
    """In a fresh process, with a cache that does not exist and an index that cannot answer."""
    code = (
        "import os, sys\n"
        "os.environ.update(CLQ_CACHE=sys.argv[1], PIP_NO_INDEX='1')\n"
        "from detectron2.data import DatasetCatalog, MetadataCatalog\n"
        "from clq.data.demo_trees import TREE_SPLITS, register_trees\n"
        "register_trees(); register_trees()\n"
        "for split in TREE_SPLITS.values():\n"
        "    assert split.dataset in DatasetCatalog.list()\n"
        "    assert MetadataCatalog.get(split.dataset).thing_classes == ['Tree']\n"
    )
    done = ForkedProgram(code, tmp_path / "cache").wait()
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("split", COUNTS)
def test_catalogs(split: str) -> None:
    register_trees()
    name = TREE_SPLITS[split].dataset
    records = DatasetCatalog.get(name)
    boxes = [annotation for record in records for annotation in record["annotations"]]
    assert (len(records), len(boxes)) == COUNTS[split]
    assert {annotation["category_id"] for annotation in boxes} == {0}
    assert all(Path(record["file_name"]).is_file() for record in records)
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "coco"
    assert metadata.json_file == str(prepare_trees()[split].json_file)
    assert metadata.image_root == str(prepare_trees()[split].image_root)
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0}


def test_the_metadata_follows_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register_trees()
    name = TREE_SPLITS["test"].dataset
    DatasetCatalog.get(name)
    before = MetadataCatalog.get(name).json_file
    (tmp_path / "wheels").symlink_to(Path(before).parent.parent / "wheels")
    monkeypatch.setenv("CLQ_CACHE", str(tmp_path))
    DatasetCatalog.get(name)
    assert MetadataCatalog.get(name).json_file == str(tmp_path / "trees-v1" / "test.json")
    assert Path(MetadataCatalog.get(name).json_file).read_bytes() == Path(before).read_bytes()
    made = {path.name for path in tmp_path.iterdir()} - {"wheels"}
    assert made == {"trees-v1", "trees-v1.sha256"}
    monkeypatch.undo()
    DatasetCatalog.get(name)
    assert MetadataCatalog.get(name).json_file == before


def test_a_failed_build_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheels = prepare_trees()["test"].json_file.parent.parent / "wheels"
    (tmp_path / "wheels").symlink_to(wheels)
    monkeypatch.setenv("CLQ_CACHE", str(tmp_path))
    monkeypatch.setattr(demo_trees, "_clip", None)  # fails in the middle of the first split
    with pytest.raises(TypeError):
        prepare_trees()
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


@pytest.mark.parametrize(
    "damage", ["train.json", "a tile", "a missing tile", "no digest", "a digest"]
)
def test_damaged_files_of_the_cache_are_made_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_trees()
    shutil.copytree(demo_trees.cache_dir(), tmp_path / "cache")
    monkeypatch.setenv("CLQ_CACHE", str(tmp_path / "cache"))
    files = prepare_trees()["train"]
    tile = sorted(files.image_root.iterdir())[0]
    path = files.json_file if damage == "train.json" else tile
    intact = path.read_bytes()
    if damage == "a missing tile":
        path.unlink()
    else:
        path.write_bytes(b"{")
    digest = tmp_path / "cache" / "trees-v1.sha256"
    if damage == "no digest":
        digest.unlink()
    elif damage == "a digest":
        digest.write_bytes(b"\xff")  # no UTF-8
    prepare_trees()
    assert path.read_bytes() == intact
