"""Validate a COCO json and collect all errors.

Letters: N images, M annotations.
"""

import contextlib
import gc
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.images import NO_FILE
from ..formats.read import read_annotations
from ..formats.source import find_layout, is_json
from .findings import Example, Finding, finding_on_file, make_findings, short_repr
from .schema import (
    ANNOTATION_RULES,
    CATEGORY_RULE,
    IMAGE_RULE,
    Entry,
    Rule,
    reference_rule,
    rotation_of,
)
from .table import CocoTable

_LISTS = ("categories", "images", "annotations")
_REQUIRED = ("category", "image")  # at least one of each
_SUBJECTS = {"category": "a category", "image": "an image", "annotation": "annotation {}"}


def load_and_validate(
    json_file: str | Path, image_root: str | Path = "", *, needs_labels: bool = True
) -> CocoTable:
    """Read and validate annotations of any format; the last two results are cached.

    Args:
        json_file: see :class:`~clq.data.coco.table.CocoFiles`.
        image_root: likewise; a json does not need it.
        needs_labels: a json without a list of annotations is an error.

    Returns:
        The usable entries, and the errors of the files and of all other entries.

    Raises:
        OSError: a file that names classes or images of YOLO or Pascal VOC can't be read.
        ValueError: such a data set lacks a part.
    """
    path = Path(json_file)
    if is_json(path) and not os.path.exists(path):
        return _unusable("missing_json", "annotation files that do not exist", "does not exist")
    table = _read_version(path, image_root, find_layout(path, image_root).fingerprint())
    return table if table.is_labelled or not needs_labels else _not_coco("annotations")


@lru_cache(maxsize=2)
def _read_version(path: Path, image_root: str | Path, version: Hashable) -> CocoTable:
    """Read one version of a data set's files, which is part of the cache's key."""
    unusable = partial(_unusable, "bad_json", "annotation files that are not json")
    with without_garbage_collection():
        if not is_json(path):
            content, findings = read_annotations(path, image_root)
            table = check_content(content)
            errors = [finding for finding in findings if finding.is_error]
            warnings = [finding for finding in findings if not finding.is_error]
            return table._replace(errors=errors + table.errors, warnings=warnings)
        if not path.is_file():
            return unusable(f"can't be read ({NO_FILE})")
        try:
            return check_content(read_annotations(path).content)
        except OSError as error:
            return unusable(f"can't be read: {error.strerror or error}")
        except ValueError as error:  # not of Unicode, or not json
            return unusable(f"is not valid json: {' '.join(str(error).split())}")
        except RecursionError:
            return unusable("is not valid json: it is nested too deeply")


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection, which doubles the time to build millions of containers."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_content(content: Any) -> CocoTable:
    """Validate the content of a json, which may be of any type."""
    is_labelled = not isinstance(content, dict) or "annotations" in content
    content = content if is_labelled else {**content, "annotations": []}
    for key in _LISTS:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return _not_coco(key)
    categories, category_errors = _apply_rules("category", content["categories"], [CATEGORY_RULE])
    root = _root_category(categories, content["annotations"])
    categories = [entry for entry in categories if entry is not root]
    images, image_errors = _apply_rules("image", content["images"], [IMAGE_RULE])
    categories.sort(key=lambda entry: entry["id"])
    index_of = {
        "image_id": {entry["id"]: index for index, entry in enumerate(images)},
        "category_id": {entry["id"]: index for index, entry in enumerate(categories)},
    }
    references = [reference_rule(key, known) for key, known in index_of.items()]
    annotations, errors = _apply_rules(
        "annotation", content["annotations"], [*references, *ANNOTATION_RULES]
    )
    # A reference to an image or a category that was left out is no error of its own.
    kinds = {error.kind for error in category_errors + image_errors}
    implied = {f"unknown_{w}_id" for w in _REQUIRED if kinds & {f"bad_{w}", f"no_{w}"}}
    errors = [error for error in errors if error.kind not in implied]
    sizes = [(entry["width"], entry["height"]) for entry in images]
    return CocoTable(
        [entry["id"] for entry in categories],
        [entry["name"] for entry in categories],
        _integers(entry["id"] for entry in images),
        [entry["file_name"] for entry in images],
        np.array(sizes, dtype=np.int64).reshape(-1, 2),
        _integers(entry["id"] for entry in annotations),
        _integers(index_of["image_id"][entry["image_id"]] for entry in annotations),
        _integers(index_of["category_id"][entry["category_id"]] for entry in annotations),
        np.array([entry["bbox"] for entry in annotations], dtype=np.float64).reshape(-1, 4),
        np.array([entry.get("iscrowd", 0) for entry in annotations], dtype=bool),
        np.array([rotation_of(entry) for entry in annotations], dtype=np.float64),
        category_errors + image_errors + errors,
        is_labelled,
        root["name"] if root else "",
    )


def _root_category(categories: list[Entry], annotations: list[Entry]) -> Entry | None:
    """Find the category without annotations that is the supercategory of all others.

    Roboflow's exports begin with one, which is no class.
    """
    used = [entry.get("category_id") for entry in annotations]
    for root in categories if len(categories) > 1 else ():
        others = (entry.get("supercategory") for entry in categories if entry is not root)
        if root["name"] and all(name == root["name"] for name in others) and root["id"] not in used:
            return root
    return None


def _integers(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


def _not_coco(key: str) -> CocoTable:
    return _unusable(
        "not_coco",
        "annotation files that are not in COCO's format",
        f"is not in COCO's format: it has no list of '{key}'",
    )


def _unusable(kind: str, what: str, predicate: str) -> CocoTable:
    """Make the empty table of a file with an error that leaves nothing to validate."""
    empty = check_content({key: [] for key in _LISTS})
    return empty._replace(errors=[finding_on_file(kind, what, predicate)])


def _apply_rules(
    what: str, entries: list[Entry], rules: Sequence[Rule]
) -> tuple[list[Entry], list[Finding]]:
    """Return the usable entries and the errors of the others; of a repeated id the first is usable.

    All rules are applied to every entry.
    """
    errors = []
    if what in _REQUIRED and not entries:
        files = f"annotation files without {what}"
        errors.append(finding_on_file(f"no_{what}", files, f"lists no {what}"))
    rejected: set[int] = set()
    for rule in rules:
        values, is_valid = rule.values(entries), rule.is_valid
        rows = [row for row, value in enumerate(values) if not is_valid(value)]
        rejected.update(rows)
        errors += make_findings(
            rule.kind,
            rule.what,
            rows,
            lambda row: Example(
                _SUBJECTS[what].format(short_repr(entries[row].get("id"))),
                rule.predicate.format(short_repr(values[row])),
            ),
        )
    first: dict[int, int] = {}  # row by id
    repeated: set[int] = set()
    for row, entry in enumerate(entries):
        id_ = entry.get("id")
        if type(id_) is int and first.setdefault(id_, row) != row:
            repeated.add(id_)
            rejected.add(row)
    errors += make_findings(
        f"repeated_{what}_id",
        f"{what} ids that are repeated",
        sorted(repeated),
        lambda id_: Example(f"{what} ids", f"must be unique, but {short_repr(id_)} is repeated"),
    )
    return [entry for row, entry in enumerate(entries) if row not in rejected], errors
