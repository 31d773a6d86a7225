"""Warn of entries that are valid one by one and contradict each other.

Letters: N images, M annotations.
"""

import os
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ..data.coco.findings import Finding, make_warnings, quote_unprintable
from ..data.coco.table import CocoTable

_MIN_WRONG = 0.1  # share of boxes beyond their image, above which another form is looked for
_MIN_RIGHT = 0.95  # share of boxes that are right in that form
_TOLERANCE = 1.0  # pixels


def check_contradictions(table: CocoTable) -> list[Finding]:
    """Warn of objects that are listed twice, of turned boxes, and of boxes of another form.

    Args:
        table: usable entries.
    """
    return [*_check_repeated_objects(table), *_check_rotations(table), *_check_box_form(table)]


def check_repeated_images(
    table: CocoTable, image_root: str | Path, *, by_content: bool
) -> list[Finding]:
    """Warn of image files that have several entries, each without the objects of the others.

    Args:
        table: usable entries.
        image_root: folder that their names start from.
        by_content: look for copies under other names, too.
    """
    paths = table.image_paths(image_root)
    first = _first_equal(map(os.path.abspath, paths))
    if by_content:
        fingerprints = _fingerprints(paths)
        copies = _first_equal(fingerprints)
        first = np.where(first == np.arange(len(paths)), copies, first)
    rows = np.flatnonzero(first != np.arange(len(paths)))
    return make_warnings(
        "repeated_image",
        "images that are listed before",
        rows,
        lambda row: table.image_example(
            row, f"is the same image as {quote_unprintable(table.file_names[first[row]])}"
        ),
        total=len(paths),
        consequence="each entry teaches the objects of the other as background: make them one",
    )


def check_shared_images(
    table: CocoTable,
    image_root: str | Path,
    train_paths: Sequence[str],
    *,
    by_content: bool,
) -> list[Finding]:
    """Warn of evaluation images that are training images, so that AP is too high.

    Args:
        table: usable entries of the evaluation data.
        image_root: folder that their names start from.
        train_paths: files to train on.
        by_content: look for copies under other names, too.
    """
    paths = table.image_paths(image_root)
    known = {os.path.abspath(path) for path in train_paths}
    is_shared = np.array([os.path.abspath(path) in known for path in paths], dtype=bool)
    if by_content:
        found = _fingerprints([*train_paths, *paths])
        of_training = set(found[: len(train_paths)])
        is_shared |= [print_ in of_training for print_ in found[len(train_paths) :]]
    return make_warnings(
        "training_images",
        "images that are also trained on",
        np.flatnonzero(is_shared),
        lambda row: table.image_example(row, "is in the training data"),
        total=len(paths),
        consequence="AP is higher than on images that the detector has not seen",
    )


def _first_equal(keys: Iterable[Hashable]) -> np.ndarray:
    """Index of the first key that equals each key, (len(keys),)."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, i) for i, key in enumerate(keys)], dtype=np.int64)


def _fingerprints(paths: Sequence[str]) -> list[Hashable]:
    """Return for each file what only copies of it share: its size and checksum.

    Only files of a size that others have, too, are read.
    """
    by_size = defaultdict(list)
    for row, path in enumerate(paths):
        try:
            by_size[os.path.getsize(path)].append(row)
        except (OSError, ValueError):  # reported as missing
            continue
    prints: list[Hashable] = [("unique", row) for row in range(len(paths))]
    for size, rows in by_size.items():
        is_alone = len({os.path.realpath(paths[row]) for row in rows}) == 1
        for row in rows:
            prints[row] = (size, 0 if is_alone else _checksum(paths[row]))
    return prints


def _checksum(path: str) -> int | str:
    try:
        return zlib.crc32(Path(path).read_bytes())
    except OSError:
        return path


def _check_repeated_objects(table: CocoTable) -> list[Finding]:
    """Warn of boxes that an image has twice, of one class or of two."""
    objects = table.objects
    boxes = zip(table.image_idxs[objects].tolist(), map(tuple, table.boxes[objects].tolist()))
    first = _first_equal(boxes)
    repeated = first != np.arange(len(objects))
    rows, others = objects[repeated], objects[first[repeated]]
    same_class = table.classes[rows] == table.classes[others]
    findings: list[Finding] = []
    for kind, what, chosen, consequence in (
        ("repeated_objects", "objects that are listed twice", rows[same_class], "both are learned"),
        (
            "boxes_of_two_classes",
            "boxes that another class has, too",
            rows[~same_class],
            "both classes are learned there",
        ),
    ):
        findings += make_warnings(
            kind,
            what,
            chosen,
            table.box_example,
            total=len(objects),
            consequence=consequence,
        )
    return findings


def _check_rotations(table: CocoTable) -> list[Finding]:
    return make_warnings(
        "rotated_boxes",
        "boxes with a rotation",
        np.flatnonzero(table.angles % 360),
        table.box_example,
        total=len(table.boxes),
        consequence="it is ignored, so that the box lies beside its object: give the upright box "
        "around the turned one",
    )


def _check_box_form(table: CocoTable) -> list[Finding]:
    """Warn of boxes that are wrong as x, y, width, height, and right in another form."""
    rows = table.objects
    rows = rows[(table.boxes[rows, 2:] > 0).all(axis=1)]
    boxes, sizes = table.boxes[rows], np.tile(table.sizes[table.image_idxs[rows]], 2)
    if len(rows) == 0:
        return []
    forms = (
        ("x0, y0, x1, y1", "give x1 - x0 and y1 - y0 as width and height", boxes),
        (
            "centre x, centre y, width, height",
            "give x - width / 2 and y - height / 2 as x and y",
            _corners(boxes, start=-0.5),
        ),
    )
    wrong = ~_are_inside(_corners(boxes), sizes)
    fractions = ((boxes <= 1).all(axis=1) & (sizes > 2).all(axis=1)).all()
    if fractions:
        chosen, form, remedy = rows, "fractions of the image", "multiply by its width and height"
    elif wrong.mean() <= _MIN_WRONG:
        return []
    else:
        fitting = [
            (form, remedy)
            for form, remedy, corners in forms
            if _share_right(corners, sizes) >= _MIN_RIGHT
        ]
        if not fitting:
            return []
        chosen, (form, remedy) = rows[wrong], fitting[0]
    return make_warnings(
        "boxes_of_another_form",
        f"boxes that look like {form} instead of x, y, width, height",
        chosen,
        table.box_example,
        total=len(rows),
        consequence=remedy,
    )


def _corners(boxes: np.ndarray, start: float = 0.0) -> np.ndarray:
    """Boxes (M, 4) with x, y and sides as corners; x, y lie ``-start`` sides inside the box."""
    lower = boxes[:, :2] + start * boxes[:, 2:]
    return np.concatenate((lower, lower + boxes[:, 2:]), axis=1)


def _are_inside(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    is_inside = (corners >= -_TOLERANCE) & (corners <= sizes + _TOLERANCE)
    return np.all(is_inside, axis=1)


def _share_right(corners: np.ndarray, sizes: np.ndarray) -> float:
    has_area = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    return float((_are_inside(corners, sizes) & has_area).mean())
