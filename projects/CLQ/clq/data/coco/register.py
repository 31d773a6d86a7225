"""Validate data sets of any format and register them in Detectron2.

Letters: K classes. Class indices are 0 .. K-1 in the order of the category ids. Boxes are
``[x, y, width, height]`` in pixels.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

from ...utils.unprintable import escape_unprintable
from .file_names import hint_at_file
from .findings import add_hint, describe_errors, quote_unprintable
from .table import CocoFiles, CocoTable, evenly_spaced
from .validate import load_and_validate

logger = logging.getLogger(__name__)

_MAX_CHECKED_IMAGES = 20


def register_coco_json(
    name: str, json_file: str | Path, image_root: str | Path, *, needs_labels: bool = True
) -> list[str]:
    """Validate a data set and register it in Detectron2 as ``name``.

    A data set of that name is replaced. Images without annotations belong to the data set; whether
    they train is up to ``DATALOADER.FILTER_EMPTY_ANNOTATIONS``. See :func:`load_boxes` for boxes
    without area.

    Args:
        name: key in Detectron2's catalogs.
        json_file: a COCO json, or a resolved data set of another format, see :class:`CocoFiles`.
        image_root: folder that its file names start from.
        needs_labels: reject a json without annotations, which is enough to predict on.

    Returns:
        The K class names by class index.

    Raises:
        ValueError: one sentence that names the file and what is wrong with it.
    """
    files = CocoFiles(Path(json_file), Path(image_root))
    table = _register_loader(name, files, needs_labels=needs_labels)
    set_coco_metadata(name, table.category_ids, table.class_names)
    MetadataCatalog.get(name).set(json_file=str(json_file), image_root=str(image_root))
    return list(table.class_names)


def take_over_coco_instances(name: str, *, needs_labels: bool = True) -> None:
    """Load a data set of Detectron2's ``register_coco_instances`` as :func:`load_boxes` does.

    Detectron2's own loader reads fewer notations, and drops boxes whose polygon is useless. A data
    set that is registered otherwise stays as it is.

    Args:
        name: key in Detectron2's catalogs.
        needs_labels: see :func:`register_coco_json`.

    Raises:
        ValueError: as :func:`register_coco_json`, or the metadata has other classes.
    """
    if DatasetCatalog[name].__module__ != register_coco_instances.__module__:
        return
    metadata = MetadataCatalog.get(name)
    files = CocoFiles(Path(metadata.json_file), Path(metadata.image_root))
    table = _register_loader(name, files, needs_labels=needs_labels)
    try:
        metadata.set(**_class_metadata(table.category_ids, table.class_names))
    except AssertionError:
        raise ValueError(
            f"the data set '{name}' is registered with other classes than {files.json_file} has, "
            f"which are {table.class_names} by rising id; leave them out of its metadata."
        ) from None


def _register_loader(name: str, files: CocoFiles, *, needs_labels: bool) -> CocoTable:
    """Validate a data set, and register :func:`load_boxes` for it."""
    table = load_and_validate(*files, needs_labels=needs_labels)
    raise_errors(table, *files)
    check_folder(table, *files)
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
    DatasetCatalog.register(name, partial(load_boxes, *files, name))
    return table


def set_coco_metadata(name: str, category_ids: Sequence[int], names: Sequence[str]) -> None:
    """Replace a data set's metadata; control characters of names become their escapes.

    Args:
        name: key in Detectron2's catalogs.
        category_ids: the json's K category ids, ascending.
        names: the K class names in the same order.
    """
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(evaluator_type="coco", **_class_metadata(category_ids, names))


def _class_metadata(category_ids: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    return {
        "thing_classes": list(map(escape_unprintable, names)),
        "thing_dataset_id_to_contiguous_id": {id_: k for k, id_ in enumerate(category_ids)},
    }


def load_boxes(json_file: str | Path, image_root: str | Path, name: str) -> list[dict[str, Any]]:
    """Read annotations into Detectron2's list of image records, by ascending image id.

    Boxes without a positive width and height, which no anchor can match, are left out with one
    warning. An evaluation, which reads the annotations itself, counts them as missed objects. Crowd
    boxes stay, marked ``iscrowd``; Detectron2's mapper leaves them out of training. Nothing but
    boxes is read, so that no segmentation can spoil one.

    Args:
        json_file: see :class:`CocoFiles`; a json may have no annotations.
        image_root: folder that its file names start from.
        name: of the data set, for the log.

    Returns:
        One record per image, including images without annotations.

    Raises:
        ValueError: one sentence that names the file and what is wrong with it, or the classes that
            it has no more.
    """
    json_file, image_root = Path(json_file), Path(image_root)
    table = load_and_validate(json_file, image_root, needs_labels=False)
    raise_errors(table, json_file, image_root)
    names = _class_metadata(table.category_ids, table.class_names)["thing_classes"]
    known = MetadataCatalog.get(name).get("thing_classes", names)
    if known != names:
        raise ValueError(
            f"the classes of {json_file} were {known} when it was registered as '{name}', and are "
            f"{names} now; register it anew."
        )
    if table.left_out:
        text = "%s: left out the category '%s', which has no objects and stands for all others"
        logger.warning(text, name, table.left_out)
    records: list[dict[str, Any]] = [
        {"file_name": os.path.join(image_root, file), "image_id": id_, "width": w, "height": h}
        for file, id_, (w, h) in zip(
            table.file_names, table.image_ids.tolist(), table.sizes.tolist(), strict=True
        )
    ]
    for record in records if table.is_labelled else ():
        record["annotations"] = []
    kept = (table.boxes[:, 2:] > 0).all(axis=1)
    for row in np.flatnonzero(kept).tolist():
        records[table.image_idxs[row]]["annotations"].append(
            {
                "bbox": table.boxes[row].tolist(),
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": int(table.classes[row]),
                "iscrowd": int(table.is_crowd[row]),
            }
        )
    logger.info("Loaded %d images with %d boxes from %s.", len(records), kept.sum(), json_file)
    if not kept.all():
        text = "%s: left out %d boxes without a positive width and height"
        logger.warning(text, name, np.count_nonzero(~kept))
    return sorted(records, key=lambda record: record["image_id"])


def class_difference(train_names: Sequence[str], val_names: Sequence[str]) -> str:
    """Describe how two lists of class names differ; empty if they are equal."""
    if list(train_names) == list(val_names):
        return ""
    only_train = sorted((Counter(train_names) - Counter(val_names)).elements())
    only_val = sorted((Counter(val_names) - Counter(train_names)).elements())
    if not only_train and not only_val:
        return f"order by category id, {list(train_names)} and {list(val_names)}"
    return f"names, only in training {only_train}, only in evaluation {only_val}"


def raise_errors(table: CocoTable, json_file: Path, image_root: Path) -> None:
    """Raise all errors of a data set as one sentence.

    Raises:
        ValueError: there are errors.
    """
    if not table.errors:
        return
    sentence = describe_errors(table.errors, json_file)
    is_one = sum(error.count for error in table.errors) == 1
    raise ValueError(sentence if is_one else add_hint(sentence, json_file, image_root))


def check_folder(table: CocoTable, json_file: Path, image_root: Path) -> None:
    """Reject a folder with none of some images of the data; the data report checks them all.

    Raises:
        ValueError: naming the folder and an image.
    """
    folder, file = (quote_unprintable(str(path)) for path in (image_root, json_file))
    names = table.file_names
    if not os.path.isdir(image_root):
        raise ValueError(f"image folder {folder} does not exist")
    sample = (names[row] for row in evenly_spaced(len(names), _MAX_CHECKED_IMAGES))
    if not any(os.path.isfile(image_root / name) for name in sample):
        raise ValueError(
            f"image folder {folder} has no {quote_unprintable(names[0])}, which {file} lists first"
            + hint_at_file(image_root, names[0])
        )
