"""Write data of any format as COCO json, whole or in two parts."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from ...utils.atomic_write import write_atomically
from ..coco.findings import Finding, quote_unprintable
from ..coco.register import check_folder, raise_errors
from ..coco.table import CocoFiles, CocoTable
from ..coco.validate import load_and_validate
from ..split import group_near_identical, split_groups
from .read import read_annotations

_MAX_CLASSES = 50  # in the table
_LOST = (
    "WARNING the images were not found, so that near-identical ones may lie on both sides; name "
    "their folder behind the data."
)


class Split(NamedTuple):
    """Result of :func:`split_data`.

    Attributes:
        text: table of the classes, and what else there is to tell.
        files: the two that were written, ``val.json`` last.
        has_images: the images are in their folder.
    """

    text: str
    files: tuple[Path, Path]
    has_images: bool


def convert_data(files: CocoFiles, out: Path) -> list[str]:
    """Write one split of a data set as COCO json.

    Args:
        files: of :func:`~clq.data.formats.source.resolve_data`.
        out: file to write, which must not exist.

    Returns:
        Lines that tell what was written, and the warnings of reading.

    Raises:
        OSError: a file can't be read or written.
        ValueError: the data has errors, or ``out`` exists or is no .json.
    """
    _check_free(out, "name another file")
    content, table = _read_valid(files)
    write_atomically(out, _dump(content))
    counts = f"{len(table.file_names)} images, {len(table.boxes)} boxes"
    told = f"{out}: {counts}, {len(table.class_names)} classes"
    if _has_images(table, files):
        told += f"; its images are in {quote_unprintable(str(files.image_root))}"
    return [told, *map(_warning, table.warnings)]


def split_data(
    files: CocoFiles, share: float, folder: Path, *, seed: int = 0, compares: bool | None = True
) -> Split:
    """Write two parts of a data set as ``train.json`` and ``val.json``.

    Args:
        files: of :func:`~clq.data.formats.source.resolve_data`.
        share: of the objects of each class, and of the images, in ``val.json``.
        folder: to write to; must hold neither file.
        seed: another one gives another split.
        compares: keep near-identical images together; None does so where the images are found.

    Raises:
        OSError: a file can't be read or written.
        ValueError: the data has errors or can't be split, the share is not between 0 and 1, or a
            file exists.
    """
    if not 0 < share < 1:
        raise ValueError(f"--val is {share:g}; it must lie between 0 and 1.")
    outs = folder / "train.json", folder / "val.json"
    for out in outs:
        _check_free(out, "name another folder by --output")
    content, table = _read_valid(files)
    if len(table.file_names) < 2:
        raise ValueError(f"{files.json_file} has only one image, which can't be split.")
    has_images = _has_images(table, files)
    groups = np.arange(len(table.file_names))
    notes: list[str] = []
    if compares or (has_images and compares is None):
        groups, notes = _group(table, files)
    elif compares is None:
        notes = [_LOST]
    counts = np.zeros((len(table.file_names), len(table.class_names)), dtype=np.int64)
    np.add.at(counts, (table.image_idxs[table.objects], table.classes[table.objects]), 1)
    chosen = split_groups(counts, groups, share, seed=seed)
    content["categories"] = _plain_classes(content["categories"], table)
    parts = [_part(content, set(table.image_ids[mask].tolist())) for mask in (~chosen, chosen)]
    write_atomically(outs[0], _dump(parts[0]))
    try:
        write_atomically(outs[1], _dump(parts[1]))
    except BaseException:
        with contextlib.suppress(OSError):
            outs[0].unlink()
        raise
    text = _table(counts, chosen, table.class_names)
    return Split("\n".join([text, *notes, *map(_warning, table.warnings)]), outs, has_images)


def _check_free(out: Path, remedy: str) -> None:
    if out.suffix.lower() != ".json":
        raise ValueError(f"{out} must end in .json.")
    if out.exists():
        raise ValueError(f"{out} exists already; {remedy}.")


def _read_valid(files: CocoFiles) -> tuple[dict[str, Any], CocoTable]:
    table = load_and_validate(*files, needs_labels=False)
    raise_errors(table, *files)
    return read_annotations(*files).content, table


def _has_images(table: CocoTable, files: CocoFiles) -> bool:
    try:
        check_folder(table, *files)
    except ValueError:
        return False
    return True


def _group(table: CocoTable, files: CocoFiles) -> tuple[np.ndarray, list[str]]:
    """Return the group of each image (N,), and what to tell of the groups.

    Raises:
        ValueError: the images are not in their folder.
    """
    check_folder(table, *files)
    groups, num_unread = group_near_identical(table.image_paths(files.image_root))
    sizes = np.bincount(groups)
    num_groups = np.count_nonzero(sizes > 1)
    notes = ["No images are near-identical."]
    if num_groups:
        text = f"{sizes[sizes > 1].sum()} images are near-identical to others, in {num_groups} "
        notes = [f"{text}groups of up to {sizes.max()}; each group is on one side."]
    if num_unread:
        notes.append(f"WARNING {num_unread} images can't be read and were not compared.")
    return groups, notes


def _plain_classes(categories: list[dict[str, Any]], table: CocoTable) -> list[dict[str, Any]]:
    """Return the classes without ``supercategory``.

    A class that is also the supercategory of all others would be taken for Roboflow's root, which
    is none, in the part that has no objects of it.
    """
    ids = set(table.category_ids)
    classes = [category for category in categories if category["id"] in ids]
    return [{k: v for k, v in entry.items() if k != "supercategory"} for entry in classes]


def _part(content: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    """Return a COCO dict of some images; all else but their annotations stays."""
    part = {**content, "images": [image for image in content["images"] if image["id"] in ids]}
    if "annotations" in content:
        part["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    return part


def _table(counts: np.ndarray, chosen: np.ndarray, class_names: Sequence[str]) -> str:
    """Tabulate objects and images on each side, the rarest classes first."""
    columns = [(quote_unprintable(n), counts[:, k]) for k, n in enumerate(class_names)]
    columns = sorted(columns, key=lambda column: column[1].sum())[:_MAX_CLASSES]
    columns.append(("(images)", np.ones(len(counts), dtype=np.int64)))
    columns.append(("(images without objects)", (counts.sum(axis=1) == 0).astype(np.int64)))
    rows = []
    for name, values in columns:
        train, val = int(values[~chosen].sum()), int(values[chosen].sum())
        rows.append([name, train, val, f"{val / max(train + val, 1):.1%}"])
    headers = ["class", "train", "val", "share"]
    align = ("left", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align)


def _warning(finding: Finding) -> str:
    return f"WARNING [{finding.kind}] {finding.sentence}, such as {finding.examples[0]}"


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()
