"""Warnings about boxes, categories and images of a data set."""

from collections import Counter

import numpy as np

from ..data.coco.findings import Example, Finding, make_warnings, quote_unprintable
from ..data.coco.table import CocoTable

_TOLERANCE = 0.01  # pixels beyond the image, from rounding


def check_health(table: CocoTable, *, keeps_empty: bool = True) -> list[Finding]:
    """Warn of unusual boxes, categories and images.

    Args:
        table: usable entries.
        keeps_empty: train images without objects as negatives.
    """
    objects = table.objects
    has_area = (table.boxes[objects, 2:] > 0).all(axis=1)
    findings = make_warnings(
        "boxes_without_area",
        "boxes without a positive width and height",
        objects[~has_area],
        table.box_example,
        consequence="left out of training, never found in evaluation",
    )
    findings += _check_borders(table, objects[has_area])
    findings += make_warnings(
        "crowd_regions",
        "crowd regions",
        np.flatnonzero(table.is_crowd),
        table.box_example,
        consequence="not learned as objects",
    )
    findings += _check_empty_images(table, keeps_empty)
    return findings + _check_classes(table)


def _check_borders(table: CocoTable, rows: np.ndarray) -> list[Finding]:
    """Warn of boxes outside their image, and of boxes partly outside."""
    boxes, sizes = table.boxes[rows], table.sizes[table.image_idxs[rows]]
    starts, ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    is_outside = ((starts >= sizes) | (ends <= 0)).any(axis=1)
    overhang = np.maximum(-starts, ends - sizes).max(axis=1, initial=0)
    findings = make_warnings(
        "boxes_outside_image",
        "boxes outside their image",
        rows[is_outside],
        table.box_example,
        consequence="left out of training",
    )
    return findings + make_warnings(
        "boxes_beyond_border",
        "boxes partly outside their image",
        rows[~is_outside & (overhang > _TOLERANCE)],
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


def _check_classes(table: CocoTable) -> list[Finding]:
    def example(k: int) -> Example:
        return Example(
            f"category {table.category_ids[k]}", f"is {quote_unprintable(table.class_names[k])}"
        )

    unused = np.setdiff1d(np.arange(len(table.class_names)), table.classes[table.objects])
    findings = make_warnings("unused_categories", "categories without an object", unused, example)
    counts = Counter(table.class_names)
    return findings + make_warnings(
        "repeated_category_name",
        "categories that share a name",
        [k for k, name in enumerate(table.class_names) if counts[name] > 1],
        example,
        consequence="they stay separate classes",
    )
