"""Data set warnings (hotcoco health check and our own).

Entries must have passed :mod:`clq.data.coco.validate`: hotcoco overlooks NaN boxes and raises on
values of other types without naming the entry.

Letters: K categories, N images, M annotations.
"""

import logging
from collections import Counter

import numpy as np

from ..data.coco.findings import Example, Finding, make_warnings, quote_unprintable
from ..data.coco.table import CocoTable
from ..data.coco.validate import without_garbage_collection

logger = logging.getLogger(__name__)

_TOLERANCE = 0.01  # pixels beyond the image, from rounding


def check_health(table: CocoTable, *, keeps_empty: bool = True) -> list[Finding]:
    """Warn of unusual boxes, categories and images.

    Args:
        table: usable entries.
        keeps_empty: train images without objects as negatives.
    """
    affected = _hotcoco_warnings(table)
    findings = make_warnings(
        "boxes_without_area",
        "boxes without a positive width and height",
        affected.get("degenerate_bbox", []),
        table.box_example,
        consequence="left out of training, never found in evaluation",
    )
    findings += _check_borders(table, affected.get("bbox_out_of_bounds", []))
    findings += make_warnings(
        "crowd_regions",
        "crowd regions",
        np.flatnonzero(table.is_crowd),
        table.box_example,
        consequence="not learned as objects",
    )
    findings += _check_empty_images(table, keeps_empty)
    return findings + _check_classes(table, affected.get("zero_instance_category", []))


def _hotcoco_warnings(table: CocoTable) -> dict[str, list[int]]:
    """Run hotcoco's health check; returns the affected indices by warning code.

    Indices replace ids and names, some of which hotcoco rejects. Without hotcoco, a log line says
    that these checks are skipped.
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
    """Warn of boxes outside their image, and of boxes partly outside."""
    boxes, sizes = table.boxes[rows], table.sizes[table.image_idxs[rows]]
    starts, ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    is_outside = ((starts >= sizes) | (ends <= 0)).any(axis=1)
    overhang = np.maximum(-starts, ends - sizes).max(axis=1, initial=0)
    findings = make_warnings(
        "boxes_outside_image",
        "boxes outside their image",
        np.array(rows, dtype=np.int64)[is_outside],
        table.box_example,
        consequence="left out of training",
    )
    return findings + make_warnings(
        "boxes_beyond_border",
        "boxes partly outside their image",
        np.array(rows, dtype=np.int64)[~is_outside & (overhang > _TOLERANCE)],
        table.box_example,
        total=len(table.objects),
        consequence="clipped in training",
    )


def _check_empty_images(table: CocoTable, keeps_empty: bool) -> list[Finding]:
    trained_on = table.image_idxs[table.is_trained_on()]
    empty = np.setdiff1d(np.arange(len(table.file_names)), trained_on)
    return make_warnings(
        "images_without_objects",
        "images without objects",
        empty,
        lambda row: table.image_example(row, "has no object to train on"),
        total=len(table.file_names),
        consequence="train as negatives" if keeps_empty else "left out of training",
    )


def _check_classes(table: CocoTable, unused: list[int]) -> list[Finding]:
    def example(k: int) -> Example:
        return Example(
            f"category {table.category_ids[k]}", f"is {quote_unprintable(table.class_names[k])}"
        )

    findings = make_warnings("unused_categories", "categories without an object", unused, example)
    counts = Counter(table.class_names)
    return findings + make_warnings(
        "repeated_category_name",
        "categories that share a name",
        [k for k, name in enumerate(table.class_names) if counts[name] > 1],
        example,
        consequence="they stay separate classes",
    )
