"""Any data set in COCO's json format: checked with clear messages, then registered in Detectron2.

Letters: K classes. Class indices are 0 .. K-1 in the order of the json's category ids. Boxes are
``[x, y, width, height]`` in pixels.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

__all__ = [
    "CocoFiles",
    "check_same_classes",
    "class_names",
    "load_boxes",
    "register_coco_json",
    "set_coco_metadata",
]

logger = logging.getLogger(__name__)


class CocoFiles(NamedTuple):
    """One data set on disk: its annotations and the folder that their file names start from."""

    json_file: Path
    image_root: Path


def class_names(json_file: str | Path) -> list[str]:
    """Names of the K classes of a COCO json, in the order of the class indices.

    Args:
        json_file: annotations in COCO's format.

    Raises:
        ValueError: the file cannot be read as COCO json.
    """
    return [category["name"] for category in _sorted_categories(_read(Path(json_file)), json_file)]


def register_coco_json(name: str, json_file: str | Path, image_root: str | Path) -> list[str]:
    """Check a COCO json and make it available to Detectron2 as the data set ``name``.

    A data set that already has this name is replaced. Images without annotations belong to the data
    set: the training loader leaves them out or keeps them by its own setting
    (``DATALOADER.FILTER_EMPTY_ANNOTATIONS``). See :func:`load_boxes` for boxes without area.

    Args:
        name: key in Detectron2's catalogs.
        json_file: annotations in COCO's format.
        image_root: folder that the json's file names start from.

    Returns:
        The K class names, in the order of the class indices.

    Raises:
        ValueError: one sentence that names the file and what is wrong with it.
    """
    json_file, image_root = Path(json_file), Path(image_root)
    content = _read(json_file)
    categories = _sorted_categories(content, json_file)
    _check_images(content["images"], json_file, image_root)
    _check_annotations(content, json_file)
    names = [category["name"] for category in categories]
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
    DatasetCatalog.register(name, partial(load_boxes, json_file, image_root, name))
    set_coco_metadata(name, [category["id"] for category in categories], names)
    MetadataCatalog.get(name).set(json_file=str(json_file), image_root=str(image_root))
    return names


def set_coco_metadata(name: str, category_ids: Sequence[int], names: Sequence[str]) -> None:
    """Start a data set's metadata afresh, with what is known before its files are.

    Args:
        name: key in Detectron2's catalogs.
        category_ids: the json's K category ids in rising order.
        names: the K class names in the same order.
    """
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(
        evaluator_type="coco",
        thing_classes=list(names),
        thing_dataset_id_to_contiguous_id={id_: k for k, id_ in enumerate(category_ids)},
    )


def load_boxes(json_file: str | Path, image_root: str | Path, name: str) -> list[dict[str, Any]]:
    """Read a COCO json into Detectron2's list of image records.

    A box whose width or height is not positive is left out of the records, with one warning for all
    of them: no anchor can match it. The json on disk keeps it, so an evaluation that reads the json
    counts it as an object that was not found. Crowd boxes stay, marked ``iscrowd``; Detectron2's
    mapper leaves them out of training.

    Args:
        json_file: annotations in COCO's format.
        image_root: folder that the json's file names start from.
        name: key in Detectron2's catalogs, whose metadata receives the class names.

    Returns:
        One record an image, those without annotations included.
    """
    records = load_coco_json(str(json_file), str(image_root), name)
    dropped = 0
    for record in records:
        kept = [anno for anno in record["annotations"] if min(anno["bbox"][2:]) > 0]
        dropped += len(record["annotations"]) - len(kept)
        record["annotations"] = kept
    if dropped:
        logger.warning("%s: left out %d boxes without a positive width and height", name, dropped)
    return records


def check_same_classes(train_names: Sequence[str], val_names: Sequence[str]) -> None:
    """Make sure that a model trained on one data set can be evaluated on another.

    Args:
        train_names: class names that the model is trained on, in index order.
        val_names: class names of the evaluation data, in index order.

    Raises:
        ValueError: the lists differ; the sentence says by which names.
    """
    if list(train_names) == list(val_names):
        return
    only_train = sorted((Counter(train_names) - Counter(val_names)).elements())
    only_val = sorted((Counter(val_names) - Counter(train_names)).elements())
    if not only_train and not only_val:
        reason = f"order by category id, {list(train_names)} and {list(val_names)}"
    else:
        reason = f"names, only in training {only_train}, only in evaluation {only_val}"
    raise ValueError(f"the classes of the training and evaluation json differ in {reason}")


def _read(json_file: Path) -> dict[str, Any]:
    """The json's content, with its three lists of objects in place."""
    if not json_file.is_file():
        raise ValueError(f"annotation file {json_file} does not exist")
    try:
        content = json.loads(json_file.read_bytes())
    except ValueError as error:  # not UTF-8, or not json
        raise ValueError(f"annotation file {json_file} is not valid json: {error}") from None
    for key in ("categories", "images", "annotations"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(
                f"annotation file {json_file} is not in COCO's format: it has no list of '{key}'"
            )
    return content


def _sorted_categories(content: dict[str, Any], json_file: str | Path) -> list[dict[str, Any]]:
    categories = content["categories"]
    if not categories:
        raise ValueError(f"annotation file {json_file} lists no category")
    for category in categories:
        if not _is_id(category.get("id")) or not isinstance(category.get("name"), str):
            raise ValueError(
                f"a category in {json_file} needs an integer 'id' and a 'name', not {category}"
            )
    _check_unique([category["id"] for category in categories], "category ids", json_file)
    return sorted(categories, key=lambda category: category["id"])


def _check_images(images: list[dict[str, Any]], json_file: Path, image_root: Path) -> None:
    if not images:
        raise ValueError(f"annotation file {json_file} lists no image")
    for image in images:
        sizes = (image.get("width"), image.get("height"))
        named = isinstance(image.get("file_name"), str) and _is_id(image.get("id"))
        if not named or not all(_is_id(size) and size > 0 for size in sizes):
            raise ValueError(
                f"an image in {json_file} needs an integer 'id', a 'file_name' and a positive "
                f"'width' and 'height', not {image}"
            )
    _check_unique([image["id"] for image in images], "image ids", json_file)
    if not image_root.is_dir():
        raise ValueError(f"image folder {image_root} does not exist")
    first = images[0]["file_name"]
    if not (image_root / first).is_file():
        raise ValueError(f"image folder {image_root} has no {first}, which {json_file} lists first")


def _check_annotations(content: dict[str, Any], json_file: Path) -> None:
    image_ids = {image["id"] for image in content["images"]}
    category_ids = {category["id"] for category in content["categories"]}
    known = {"image_id": image_ids, "category_id": category_ids}
    for annotation in content["annotations"]:
        where = f"annotation {annotation.get('id')} in {json_file}"
        if not _is_id(annotation.get("id")):
            raise ValueError(f"{where} needs an integer 'id'")
        for key, ids in known.items():
            if not _is_id(annotation.get(key)) or annotation[key] not in ids:
                raise ValueError(f"{where} has the unknown {key} {annotation.get(key)!r}")
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
            raise ValueError(f"{where} has the bbox {box!r} instead of 4 finite numbers")
        if annotation.get("ignore"):  # Detectron2 stops at it without saying where
            raise ValueError(f"{where} is marked 'ignore': mark it 'iscrowd' or take it out")
    _check_unique([anno["id"] for anno in content["annotations"]], "annotation ids", json_file)


def _check_unique(ids: Sequence[Hashable], what: str, json_file: str | Path) -> None:
    repeated = [id_ for id_, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} in {json_file} must be unique, but {repeated[0]!r} is repeated")


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value)
