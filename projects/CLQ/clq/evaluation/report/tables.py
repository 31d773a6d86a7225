"""Objects and detections of a test set as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

Truth = Mapping[str, Any]
Detections = Sequence[Mapping[str, Any]]
AnyTable = TypeVar("AnyTable", bound="Table")


@dataclass(frozen=True)
class Table:
    """Boxes with what belongs to each; every attribute has one row for each box.

    Attributes:
        row: index of the box in the list that it is from.
        image: index of the image in the json.
        label: index of the class, by ascending category id.
        box: x, y, width and height in pixels, (., 4).
    """

    row: np.ndarray
    image: np.ndarray
    label: np.ndarray
    box: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self: AnyTable, rows: np.ndarray) -> AnyTable:
        """Select boxes by index or mask."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class ObjectTable(Table):
    """Boxes of the ground truth, in its order.

    Attributes:
        area: in square pixels as annotated, or width * height.
        is_crowd: whether the box stands for many objects.
    """

    area: np.ndarray
    is_crowd: np.ndarray


@dataclass(frozen=True)
class DetectionTable(Table):
    """Boxes of a detector, highest score first.

    Attributes:
        score: confidence.
    """

    score: np.ndarray


def object_table(truth: Truth) -> ObjectTable:
    """Read the annotations of a COCO json, which may lack "area" and "iscrowd"."""
    annotations = truth["annotations"]
    columns = _columns(truth, annotations)
    areas = [annotation.get("area") for annotation in annotations]
    return ObjectTable(
        **columns,
        area=np.array(
            [w * h if area is None else area for area, (_, _, w, h) in zip(areas, columns["box"])]
        ),
        is_crowd=np.array([bool(a.get("iscrowd")) for a in annotations], dtype=bool),
    )


def detection_table(truth: Truth, detections: Detections, limit: int) -> DetectionTable:
    """Read COCO results, of each image and class the ``limit`` best.

    Where scores are equal, the image with the smaller id comes first, then the order of the list,
    as in COCO's metrics.

    Raises:
        ValueError: a detection is of an image or category that the ground truth lacks.
    """
    scores = np.array([detection["score"] for detection in detections], dtype=float)
    table = DetectionTable(**_columns(truth, detections), score=scores)
    table = table[np.lexsort((_image_ranks(truth)[table.image], -scores))]
    return table[rank_in_group(table.image, table.label) < limit]


def rows_by_image(table: Table, num_images: int) -> list[np.ndarray]:
    """The rows of each image, in order; N arrays."""
    order = np.argsort(table.image, kind="stable")
    return np.split(order, np.searchsorted(table.image[order], np.arange(1, num_images)))


def rank_in_group(*keys: np.ndarray) -> np.ndarray:
    """Number the rows that agree in all keys, from 0 in their order; keys and result are (D,)."""
    order = np.lexsort(keys)  # stable
    ordered = np.stack(keys)[:, order]
    starts = np.r_[True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)][: len(order)]
    position = np.arange(len(order))
    ranks = np.empty(len(order), dtype=int)
    ranks[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return ranks


def _columns(truth: Truth, boxes: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    images = {image["id"]: i for i, image in enumerate(truth["images"])}
    labels = {id_: k for k, id_ in enumerate(sorted(c["id"] for c in truth["categories"]))}
    return {
        "row": np.arange(len(boxes)),
        "image": _indices(boxes, "image_id", images),
        "label": _indices(boxes, "category_id", labels),
        "box": np.array([box["bbox"] for box in boxes], dtype=float).reshape(-1, 4),
    }


def _indices(
    boxes: Sequence[Mapping[str, Any]], key: str, index_of: Mapping[Any, int]
) -> np.ndarray:
    try:
        return np.array([index_of[box[key]] for box in boxes], dtype=int)
    except KeyError as error:
        raise ValueError(
            f"A box has the {key} {error}, which the ground truth lacks: are the detections of "
            f"another data set?"
        ) from error


def _image_ranks(truth: Truth) -> np.ndarray:
    """Place of each image by ascending id, or in the json where ids are texts."""
    ids = [image["id"] for image in truth["images"]]
    if any(type(id_) is not int for id_ in ids):
        return np.arange(len(ids))
    return np.argsort(np.argsort(ids))
