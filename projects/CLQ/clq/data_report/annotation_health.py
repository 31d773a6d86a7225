"""Data set warnings, by hotcoco's health check where it looks and by our own elsewhere.

The entries must have passed :mod:`json_checks`: hotcoco overlooks boxes that are NaN and raises on
values of other types, without naming the entry.

Letters: K categories, N images, M annotations.
"""

import logging
from collections import Counter

import numpy as np

from ..data.coco.findings import Example, Finding, find, plain
from ..data.coco.table import CocoTable
from ..data.coco.validate import without_garbage_collection

logger = logging.getLogger(__name__)

_TOLERANCE = 0.01  # pixels that a box may reach beyond its image, as rounding does


def check_health(table: CocoTable, *, keeps_empty: bool = True) -> list[Finding]:
    """Notes on boxes, categories and images.

    Args:
        table: usable entries.
        keeps_empty: whether images without objects train as negatives.
    """
    affected = _ask_hotcoco(table)
    findings = find(
        "boxes_without_area",
        "boxes without a positive width and height",
        affected.get("degenerate_bbox", []),
        table.box_example,
        is_fault=False,
        then="left out of training, never found in evaluation",
    )
    findings += _check_borders(table, affected.get("bbox_out_of_bounds", []))
    findings += find(
        "objects_without_polygon",
        "objects whose segmentation has no polygon of three points",
        np.flatnonzero(table.lacks_polygon),
        table.box_example,
        is_fault=False,
        then="left out of training by Detectron2",
    )
    findings += find(
        "crowd_regions",
        "crowd regions",
        np.flatnonzero(table.is_crowd),
        table.box_example,
        is_fault=False,
        then="not learned as objects",
    )
    findings += _check_empty_images(table, keeps_empty)
    return findings + _check_classes(table, affected.get("zero_instance_category", []))


def _ask_hotcoco(table: CocoTable) -> dict[str, list[int]]:
    """Indices of what hotcoco reports on objects and categories, by its code.

    Indices take the place of ids and names, since hotcoco refuses some that others take. On a
    machine that has no hotcoco, training goes on without these notes and says so.
    """
    try:
        import hotcoco
    except ImportError:
        logger.warning("hotcoco is not installed: no look at box sides, borders, unused classes.")
        return {}
    objects = table.objects
    columns = (objects, table.image_idxs[objects], table.classes[objects], table.boxes[objects])
    coco = hotcoco.COCO()
    with without_garbage_collection():
        coco.dataset = {
            "images": [
                {"id": row, "file_name": "", "width": width, "height": height}
                for row, (width, height) in enumerate(table.sizes.tolist())
            ],
            "annotations": [
                {"id": row, "image_id": image, "category_id": class_, "bbox": box}
                for row, image, class_, box in zip(*(column.tolist() for column in columns))
            ],
            "categories": [{"id": k, "name": str(k)} for k in range(len(table.class_names))],
        }
    coco.createIndex()
    health = coco.healthcheck()
    assert not health["errors"], health["errors"]
    return {warning["code"]: sorted(warning["affected_ids"]) for warning in health["warnings"]}


def _check_borders(table: CocoTable, rows: list[int]) -> list[Finding]:
    """Tell boxes without any part in their image from those that reach beyond it."""
    boxes, sizes = table.boxes[rows], table.sizes[table.image_idxs[rows]]
    starts, ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    is_outside = ((starts >= sizes) | (ends <= 0)).any(axis=1)
    overhang = np.maximum(-starts, ends - sizes).max(axis=1, initial=0)
    findings = find(
        "boxes_outside_image",
        "boxes outside their image",
        np.array(rows, dtype=np.int64)[is_outside],
        table.box_example,
        is_fault=False,
        then="left out of training",
    )
    return findings + find(
        "boxes_beyond_border",
        "boxes partly outside their image",
        np.array(rows, dtype=np.int64)[~is_outside & (overhang > _TOLERANCE)],
        table.box_example,
        is_fault=False,
        total=len(table.objects),
        then="clipped in training",
    )


def _check_empty_images(table: CocoTable, keeps_empty: bool) -> list[Finding]:
    trained_on = table.image_idxs[table.trains()]
    empty = np.setdiff1d(np.arange(len(table.file_names)), trained_on)
    return find(
        "images_without_objects",
        "images without objects",
        empty,
        lambda row: table.image_example(row, "has no object to train on"),
        is_fault=False,
        total=len(table.file_names),
        then="train as negatives" if keeps_empty else "left out of training",
    )


def _check_classes(table: CocoTable, unused: list[int]) -> list[Finding]:
    def example(k: int) -> Example:
        return Example(f"category {table.category_ids[k]}", f"is {plain(table.class_names[k])}")

    findings = find(
        "unused_categories", "categories without an object", unused, example, is_fault=False
    )
    counts = Counter(table.class_names)
    return findings + find(
        "repeated_category_name",
        "categories that share a name",
        [k for k, name in enumerate(table.class_names) if counts[name] > 1],
        example,
        is_fault=False,
        then="they stay separate classes",
    )
