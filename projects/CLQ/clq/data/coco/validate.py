"""Validate a COCO json and collect all errors.

Letters: K categories, N images, M annotations.
"""

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .findings import Example, Finding, find, shown
from .schema import (
    INTEGER_LIMIT,
    OPTIONAL_KEYS,
    are_ids,
    box_array,
    is_size,
    is_text,
    lacks_polygon,
)
from .table import CocoTable

Entries = list[dict[str, Any]]

_LISTS = ("categories", "images", "annotations")


def read_coco(json_file: str | Path) -> CocoTable:
    """Read and check a COCO json; the last two that were read are kept.

    Args:
        json_file: annotations in COCO's format.

    Returns:
        Its usable entries. Whatever is wrong with the file or in it is among the faults.
    """
    path = Path(json_file)
    try:
        stat = path.stat()
    except (OSError, ValueError):  # the latter for a name that no file can have
        return _unusable("missing_json", "annotation files that do not exist", "does not exist")
    return _read_version(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _read_version(path: Path, mtime_ns: int, size: int) -> CocoTable:
    """Read a file as it was changed last; modification time and size are there for the cache."""
    unusable = partial(_unusable, "bad_json", "annotation files that are not json")
    if not path.is_file():
        return _unusable("missing_json", "annotation files that do not exist", "does not exist")
    with without_garbage_collection():
        try:
            content = json.loads(path.read_bytes().decode("utf-8"))
        except OSError as error:
            return unusable(f"can't be read: {error.strerror or error}")
        except ValueError as error:  # not UTF-8, or not json
            return unusable(f"is not valid json: {' '.join(str(error).split())}")
        except RecursionError:
            return unusable("is not valid json: it is nested too deeply")
        return check_content(content)


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Build millions of small containers, none of them in a cycle, in half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_content(content: Any) -> CocoTable:
    """Check what a json holds.

    Args:
        content: of any type.
    """
    for key in _LISTS:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return _unusable(
                "not_coco",
                "annotation files that are not in COCO's format",
                f"is not in COCO's format: it has no list of '{key}'",
            )
    categories = _check_categories(content["categories"])
    images = _check_images(content["images"])
    faults = [*categories.faults, *images.faults]
    entries = content["annotations"]
    table = _check_annotations(entries, categories, images)
    return table._replace(faults=faults + table.faults)


def _unusable(kind: str, what: str, predicate: str) -> CocoTable:
    """The table of a file with a fault that leaves nothing to look at."""
    faults = find(kind, what, [0], lambda _: Example("", predicate))
    return _check_annotations([], _check_categories([]), _check_images([]))._replace(faults=faults)


# ------------------------------------------------------------------------ categories and images


class _Categories(NamedTuple):
    ids: list[int]  # rising
    names: list[str]
    are_complete: bool  # none was left out
    faults: list[Finding]


class _Images(NamedTuple):
    ids: np.ndarray  # (N,)
    file_names: list[str]
    sizes: np.ndarray  # width and height, (N, 2)
    are_complete: bool  # none was left out
    faults: list[Finding]


def _check_categories(entries: Entries) -> _Categories:
    ids = [entry.get("id") for entry in entries]
    names = [entry.get("name") for entry in entries]
    is_good = are_ids(ids) & np.fromiter(map(is_text, names), bool, len(names))
    faults = [] if entries else _empty("no_category", "category")
    faults += find(
        "bad_category",
        "categories without an integer 'id' and a 'name'",
        np.flatnonzero(~is_good),
        lambda row: Example(
            "a category",
            f"needs an integer 'id' of 0 or more and a 'name', not {shown(entries[row])}",
        ),
    )
    is_first, repeated = _find_repeated("category", list(compress(ids, is_good)))
    good = list(compress(zip(ids, names), is_good))
    pairs: list[Any] = sorted(compress(good, is_first), key=lambda pair: pair[0])
    return _Categories(
        [id_ for id_, _ in pairs], [name for _, name in pairs], not faults, faults + repeated
    )


def _check_images(entries: Entries) -> _Images:
    ids = [entry.get("id") for entry in entries]
    names: list[Any] = [entry.get("file_name") for entry in entries]
    sizes = [(entry.get("width"), entry.get("height")) for entry in entries]
    is_good = are_ids(ids)
    is_good &= np.fromiter((isinstance(name, str) and bool(name) for name in names), bool, len(ids))
    is_good &= np.fromiter(map(is_size, sizes), bool, len(ids))
    faults = [] if entries else _empty("no_image", "image")
    faults += find(
        "bad_image",
        "images without an integer 'id', a 'file_name' or a size",
        np.flatnonzero(~is_good),
        lambda row: Example(
            "an image",
            "needs an integer 'id' of 0 or more, a 'file_name' and a positive 'width' and "
            f"'height', not {shown(entries[row])}",
        ),
    )
    is_first, repeated = _find_repeated("image", list(compress(ids, is_good)))
    keep = is_good.copy()
    keep[is_good] = is_first
    return _Images(
        np.array(list(compress(ids, keep)), dtype=np.int64),
        list(compress(names, keep)),
        np.array(list(compress(sizes, keep)), dtype=np.int64).reshape(-1, 2),
        not faults,
        faults + repeated,
    )


def _empty(kind: str, what: str) -> list[Finding]:
    return find(
        kind, f"annotation files without {what}", [0], lambda _: Example("", f"lists no {what}")
    )


# ---------------------------------------------------------------------------------- annotations


def _check_annotations(entries: Entries, categories: _Categories, images: _Images) -> CocoTable:
    ids = [entry.get("id") for entry in entries]
    has_id = are_ids(ids, lowest=-INTEGER_LIMIT)
    faults = find(
        "bad_annotation_id",
        "annotations without an integer 'id'",
        np.flatnonzero(~has_id),
        lambda row: Example(f"annotation {shown(ids[row])}", "needs an integer 'id'"),
    )
    image_idxs, unknown = _look_up(entries, "image_id", images.ids.tolist())
    # Where an image or a category was left out, what refers to it is not at fault.
    faults += unknown if images.are_complete else []
    classes, unknown = _look_up(entries, "category_id", categories.ids)
    faults += unknown if categories.are_complete else []
    boxes, no_box = _check_boxes(entries)
    faults += no_box
    is_good = has_id & (image_idxs >= 0) & (classes >= 0) & ~np.isnan(boxes[:, 0])
    rows, unusable = _check_optional_keys(entries)
    is_good[rows] = False
    is_first, repeated = _find_repeated("annotation", list(compress(ids, has_id)))
    is_good[np.flatnonzero(has_id)[~is_first]] = False
    return CocoTable(
        categories.ids,
        categories.names,
        images.ids,
        images.file_names,
        images.sizes,
        np.array(list(compress(ids, is_good)), dtype=np.int64),
        image_idxs[is_good],
        classes[is_good],
        boxes[is_good],
        _where(entries, "iscrowd", bool)[is_good],
        _where(entries, "segmentation", lacks_polygon)[is_good],
        faults + unusable + repeated,
    )


def _look_up(entries: Entries, key: str, known: list[int]) -> tuple[np.ndarray, list[Finding]]:
    """Index of each entry's reference among the known ids, -1 where it is none of them, (M,)."""
    index_of = {id_: index for index, id_ in enumerate(known)}
    values = [entry.get(key) for entry in entries]
    indices = np.fromiter(
        (index_of.get(value, -1) if type(value) is int else -1 for value in values),
        np.int64,
        len(values),
    )
    faults = find(
        f"unknown_{key}",
        f"annotations whose {key} the json does not list",
        np.flatnonzero(indices < 0),
        lambda row: Example(_name(entries[row]), f"has the unknown {key} {shown(values[row])}"),
    )
    return indices, faults


def _check_boxes(entries: Entries) -> tuple[np.ndarray, list[Finding]]:
    """Boxes as float64 (M, 4), NaN where an entry has none that can be used."""
    values = [entry.get("bbox") for entry in entries]
    boxes = box_array(values)
    faults = find(
        "bad_box",
        "annotations whose bbox is not 4 finite numbers",
        np.flatnonzero(np.isnan(boxes[:, 0])),
        lambda row: Example(
            _name(entries[row]), f"has the bbox {shown(values[row])} instead of 4 finite numbers"
        ),
    )
    return boxes, faults


def _check_optional_keys(entries: Entries) -> tuple[list[int], list[Finding]]:
    """Check optional keys of annotations; gives the rows where they are not what they must be.

    Detectron2's loader or the evaluation would stop at these without naming the entry.
    """
    rows: list[int] = []
    faults: list[Finding] = []
    for key, rule in OPTIONAL_KEYS.items():
        wrong = _rows_where(entries, key, lambda value: not rule.allows(value))
        rows += wrong
        faults += find(
            f"bad_{key}",
            f"annotations with an unusable '{key}'",
            wrong,
            lambda row: Example(
                _name(entries[row]), f"has the {key} {shown(entries[row][key])} {rule.instead}"
            ),
        )
    ignored = _rows_where(entries, "ignore", lambda value: value != 0)
    faults += find(
        "marked_ignore",
        "annotations that are marked 'ignore'",
        ignored,
        lambda row: Example(
            _name(entries[row]), "is marked 'ignore': mark it 'iscrowd' or take it out"
        ),
    )
    return rows + ignored, faults


def _rows_where(entries: Entries, key: str, is_so: Callable[[Any], bool]) -> list[int]:
    return [row for row, entry in enumerate(entries) if key in entry and is_so(entry[key])]


def _where(entries: Entries, key: str, is_so: Callable[[Any], bool]) -> np.ndarray:
    """Find the entries whose value of a key passes a test, bool (M,)."""
    where = np.zeros(len(entries), dtype=bool)
    where[_rows_where(entries, key, is_so)] = True
    return where


def _name(annotation: dict[str, Any]) -> str:
    return f"annotation {shown(annotation.get('id'))}"


def _find_repeated(what: str, ids: list[Any]) -> tuple[np.ndarray, list[Finding]]:
    """Tell whether each id occurs for the first time, bool (len(ids),)."""
    values = np.array(ids, dtype=np.int64)
    unique, first, counts = np.unique(values, return_index=True, return_counts=True)
    faults = find(
        f"repeated_{what}_id",
        f"{what} ids that are repeated",
        np.flatnonzero(counts > 1),
        lambda row: Example(f"{what} ids", f"must be unique, but {unique[row]} is repeated"),
    )
    is_first = np.zeros(len(values), dtype=bool)
    is_first[first] = True
    return is_first, faults
