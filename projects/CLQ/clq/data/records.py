"""Image records of registered data sets, whoever registered them."""

import math
import operator
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode
from PIL import Image

from ..runtime.images import upright_size

Record = dict[str, Any]  # of one image, in Detectron2's format

_NAME_CLASSES = "MetadataCatalog.get('{0}').thing_classes = [...] names the classes"

# Of a function that a user has registered.
_LOAD_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(OSError, TypeError, ValueError),
)


def load_records(names: str | Sequence[str], *, filter_empty: bool = False) -> list[dict[str, Any]]:
    """Load data sets as Detectron2 does, and complete what its format leaves open.

    An image without an id gets its index, and one without a size that of its file.

    Args:
        names: in Detectron2's catalog.
        filter_empty: leave out images without objects.

    Raises:
        ValueError: an image has no file name, or neither a size nor a file.
    """
    records = get_detection_dataset_dicts(names, filter_empty=filter_empty)
    return [_completed(record, index) for index, record in enumerate(records)]


def read_data_set(name: str) -> list[dict[str, Any]]:
    """Load a data set that is about to be checked.

    Args:
        name: in Detectron2's catalog.

    Raises:
        ValueError: the data set can't be loaded or has no image; see also :func:`load_records`.
    """
    try:
        records = DatasetCatalog.get(name)
        is_empty = len(records) == 0  # Detectron2 takes no generator
    except _LOAD_ERRORS as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"the data set '{name}' can't be loaded ({reason}).") from error
    if is_empty:
        raise ValueError(f"the data set '{name}' has no image.")
    return [_completed(record, index) for index, record in enumerate(records)]


def check_labels(
    name: str, records: Sequence[dict[str, Any]], num_classes: int, *, for_training: bool
) -> None:
    """Check the annotations of a data set against the number of classes.

    Args:
        name: of the data set.
        records: that it consists of.
        num_classes: ``MODEL.CLQ.NUM_CLASSES``.
        for_training: it must have annotations, which without class names show every class.

    Raises:
        ValueError: naming the data set and an annotation.
    """
    is_labelled = ["annotations" in record for record in records]
    if any(is_labelled) and not all(is_labelled):
        record = records[is_labelled.index(False)]
        raise ValueError(
            f"{record['file_name']} in the data set '{name}' has no annotations, unlike others; "
            "give an empty list where there is no object."
        )
    found = set()
    for record in records:
        for annotation in record.get("annotations", ()):
            found.add(_class_of(annotation, record, name, num_classes))
    if not for_training:
        return
    if not found:
        raise ValueError(f"the data set '{name}' has no annotations to train on.")
    missing = sorted(set(range(num_classes)) - found)
    if missing and MetadataCatalog.get(name).get("thing_classes") is None:
        advice = _NAME_CLASSES.format(name)
        raise ValueError(
            f"MODEL.CLQ.NUM_CLASSES is {num_classes}, but no annotation of the data set '{name}' "
            f"has the category_id {missing[0]}; they have {len(found)} different ones up to "
            f"{max(found)}. Number the classes from 0 and set the key to their number, or if some "
            f"do not occur, {advice}."
        )


def check_image_ids(name: str, records: Sequence[dict[str, Any]]) -> None:
    """Check that each image of a data set to evaluate has an id of its own.

    Raises:
        ValueError: naming an id that two have.
    """
    counts = Counter(record["image_id"] for record in records)
    image_id, count = counts.most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"{count} records of the data set '{name}' have the image_id {image_id!r}, so that "
            "their detections can't be told apart; give each image its own."
        )


def _class_of(annotation: dict[str, Any], record: dict[str, Any], name: str, limit: int) -> int:
    place = f"an annotation of {record['file_name']} in the data set '{name}'"
    for key in ("bbox", "bbox_mode", "category_id"):
        if key not in annotation:
            raise ValueError(f"{place} has no {key}, which Detectron2's format asks for.")
    try:
        index = operator.index(annotation["category_id"])
    except TypeError:
        index = -1
    if not 0 <= index < limit:
        raise ValueError(
            f"{place} has the category_id {annotation['category_id']!r}, but with "
            f"MODEL.CLQ.NUM_CLASSES {limit} it must be one of 0 .. {limit - 1}; set the key to the "
            "number of classes, or correct the data."
        )
    for key, expected, is_valid in _ANNOTATION_RULES:
        if not is_valid(annotation.get(key, 0)):
            raise ValueError(f"{place} has the {key} {annotation[key]!r} instead of {expected}.")
    return index


def _is_box(value: Any) -> bool:
    try:
        sides = [float(side) for side in value]
    except (TypeError, ValueError):
        return False
    return len(sides) == 4 and all(map(math.isfinite, sides))


_ANNOTATION_RULES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("bbox", "4 numbers", _is_box),
    (
        "bbox_mode",
        "BoxMode.XYXY_ABS or XYWH_ABS",
        lambda value: value in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS),
    ),
    ("iscrowd", "0 or 1", lambda value: value in (0, 1)),
)


def _check_record(record: Any, index: int) -> None:
    """Check the entries of an image beside its annotations' own."""
    if not isinstance(record, dict) or "file_name" not in record:
        raise ValueError(f"record {index} of a data set is no dict, or has no file_name.")
    for key, kinds, expected in (
        ("file_name", (str, os.PathLike), "a path"),
        ("image_id", (int, float, str), "a number or a text"),
        ("width", (int, float), "a number of pixels"),
        ("height", (int, float), "a number of pixels"),
        ("annotations", (list, tuple), "a list"),
    ):
        value: Any = record.get(key)
        value = value.item() if hasattr(value, "item") else value  # of NumPy
        may_lack = key in ("width", "height") and value is None
        if key in record and not may_lack and not isinstance(value, kinds):
            raise ValueError(
                f"record {index} of a data set, {record['file_name']}, has the {key} {value!r} "
                f"instead of {expected}."
            )


def _completed(record: dict[str, Any], index: int) -> dict[str, Any]:
    _check_record(record, index)
    image_id = record.get("image_id", index)
    image_id = image_id.item() if hasattr(image_id, "item") else image_id  # of NumPy
    if record.get("width") is None or record.get("height") is None:
        try:
            with Image.open(record["file_name"]) as image:
                width, height = upright_size(image)
        except OSError as error:
            raise ValueError(
                f"{record['file_name']} can't be read, and its record states no width and height."
            ) from error
        record = {**record, "width": width, "height": height}
    return {**record, "image_id": image_id}


def default_class_names(num_classes: int) -> list[str]:
    """Name the classes of data that names none, by index."""
    return [f"class_{k}" for k in range(num_classes)]


def as_coco(records: Sequence[dict[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """Convert records to a COCO ground truth, whose category ids are class indices.

    Args:
        records: of :func:`load_records`.
        class_names: by class index.
    """
    annotations = [
        {
            "image_id": record["image_id"],
            "category_id": int(annotation["category_id"]),
            "bbox": BoxMode.convert(
                [float(side) for side in annotation["bbox"]],
                BoxMode(annotation["bbox_mode"]),
                BoxMode.XYWH_ABS,
            ),
            "iscrowd": int(annotation.get("iscrowd", 0)),
        }
        for record in records
        for annotation in record.get("annotations", ())
    ]
    images = [
        {"id": record["image_id"], **{key: record[key] for key in ("file_name", "width", "height")}}
        for record in records
    ]
    is_labelled = any("annotations" in record for record in records)
    return {
        "images": images,
        "categories": [{"id": k, "name": name} for k, name in enumerate(class_names)],
        **({"annotations": annotations} if is_labelled else {}),
    }
