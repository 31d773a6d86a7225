"""Warn of entries that are valid one by one and contradict each other.

Letters: N images, M annotations.
"""

import os
import zlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from ..data.coco.findings import Finding, make_warnings, quote_unprintable
from ..data.coco.table import CocoTable

_MIN_WRONG = 0.1  # share of boxes beyond their image, above which another form is looked for
_MIN_RIGHT = 0.95  # share of boxes that are right in that form
# With fewer wrong boxes, those that go beyond the right and lower borders alone tell of centres.
_MIN_BEYOND = 10
_MAX_SHARE_BEFORE = 0.05  # beyond the left and upper borders as centres, of those beyond as corners
_TOLERANCE = 1.0  # pixels


def check_contradictions(table: CocoTable) -> list[Finding]:
    """Warn of objects that are listed twice, of turned boxes, and of boxes of another form.

    Args:
        table: usable entries.
    """
    return [*_check_repeated_objects(table), *_check_rotations(table), *_check_box_form(table)]


def check_repeated_images(
    table: CocoTable, image_root: str | Path, train_paths: Sequence[str], *, by_content: bool
) -> list[Finding]:
    """Warn of images that have several entries, and of those that are also trained on.

    Args:
        table: usable entries.
        image_root: folder that their names start from.
        train_paths: image files to train on, if the entries are of evaluation data.
        by_content: look for copies under other names, too.
    """
    paths, num_train = [*train_paths, *table.image_paths(image_root)], len(train_paths)
    first = np.arange(len(table.file_names))
    is_shared = np.zeros(len(first), dtype=bool)
    names: list[Hashable] = list(map(os.path.abspath, paths))
    for keys in [names, _fingerprints(paths)] if by_content else [names]:
        first = np.minimum(first, _first_equal(keys[num_train:]))
        is_shared |= _first_equal(keys)[num_train:] < num_train
    findings = make_warnings(
        "repeated_image",
        "images that are listed before",
        np.flatnonzero(first != np.arange(len(first))),
        lambda row: table.image_example(
            row, f"is the same image as {quote_unprintable(table.file_names[first[row]])}"
        ),
        total=len(first),
        consequence="each entry teaches the objects of the other as background: make them one",
    )
    return findings + make_warnings(
        "training_images",
        "images that are also trained on",
        np.flatnonzero(is_shared),
        lambda row: table.image_example(row, "is in the training data"),
        total=len(first),
        consequence="AP is higher than on images that the detector has not seen",
    )


def _first_equal(keys: Sequence[Hashable]) -> np.ndarray:
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
    first = _first_equal(list(boxes))
    repeated = first != np.arange(len(objects))
    rows, others = objects[repeated], objects[first[repeated]]
    same_class = table.classes[rows] == table.classes[others]
    findings = make_warnings(
        "repeated_objects",
        "objects that are listed twice",
        rows[same_class],
        table.box_example,
        total=len(objects),
        consequence="both are learned",
    )
    return findings + make_warnings(
        "boxes_of_two_classes",
        "boxes that another class has, too",
        rows[~same_class],
        table.box_example,
        total=len(objects),
        consequence="both classes are learned there",
    )


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
    wrong = ~_are_inside(_corners(boxes), sizes)
    fractions = (boxes <= 1).all(axis=1) & (sizes > 2).all(axis=1)
    if fractions.any():
        chosen, form = fractions, "fractions of the image"
        remedy = "multiply by its width and height"
    elif wrong.mean() > _MIN_WRONG and _share_right(boxes, sizes) >= _MIN_RIGHT:
        chosen, form = wrong, "x0, y0, x1, y1"
        remedy = "give x1 - x0 and y1 - y0 as width and height"
    elif _are_centres(boxes, wrong, sizes):
        chosen, form = wrong, "centre x, centre y, width, height"
        remedy = "give x - width / 2 and y - height / 2 as x and y"
    else:
        return []
    return make_warnings(
        "boxes_of_another_form",
        f"boxes that look like {form} instead of x, y, width, height",
        rows[chosen],
        table.box_example,
        total=len(rows),
        consequence=remedy,
    )


def _are_centres(boxes: np.ndarray, wrong: np.ndarray, sizes: np.ndarray) -> bool:
    """Tell whether x and y are more likely the centres of boxes than their corners.

    Args:
        boxes: (M, 4).
        wrong: mask of those beyond their image as corners, (M,).
        sizes: width and height of their images, twice, (M, 4).
    """
    centred = _corners(boxes, start=-0.5)
    if wrong.mean() > _MIN_WRONG:
        return _share_right(centred, sizes) >= _MIN_RIGHT
    num_before = np.count_nonzero(~_are_inside(centred, sizes))
    return bool(wrong.sum() >= max(_MIN_BEYOND, num_before / _MAX_SHARE_BEFORE))


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
