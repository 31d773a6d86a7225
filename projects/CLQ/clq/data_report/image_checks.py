"""Check that image files exist, are readable and have the size that the annotations state.

Letters: N images of a data set.
"""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.coco.file_names import hint_at_file
from ..data.coco.findings import (
    Finding,
    finding_on_file,
    make_findings,
    make_warnings,
    quote_unprintable,
)
from ..data.coco.table import CocoTable
from ..runtime.images import NO_FILE, READ_ERRORS, check_depth, read_image, reason_of, upright_size

_MANY_FILES = 100  # in one folder, which is then listed instead of checking each file
_NARROW = 16  # grey levels of 256


class ImageFacts(NamedTuple):
    """Contents of an image file.

    Attributes:
        width: of the upright image in pixels.
        height: likewise.
        value_range: lowest and highest value of a channel as the network sees it, where decoded.
    """

    width: int
    height: int
    value_range: tuple[int, int] | None = None


class ImageChecks(NamedTuple):
    """Result of checking the image files of a data set.

    Attributes:
        findings: on unusable files.
        usable: indices of the images that were read and match the annotations.
        num_read: number of images that were read.
    """

    findings: list[Finding]
    usable: np.ndarray
    num_read: int


def check_images(
    table: CocoTable,
    image_root: str | Path,
    rows: np.ndarray,
    read_facts: Callable[[str], ImageFacts],
    *,
    skips_unreadable: bool = False,
) -> ImageChecks:
    """Check that all image files exist, and read some of them.

    Args:
        table: N images.
        image_root: folder that their names start from.
        rows: indices of the images to read.
        read_facts: reads a file, such as :func:`read_header`.
        skips_unreadable: report unusable files as warnings, since training skips them.
    """
    if not os.path.isdir(image_root):
        folder = quote_unprintable(str(image_root))
        predicate = f"needs the image folder {folder}, which does not exist"
        missing = finding_on_file("missing_folder", "image folders that do not exist", predicate)
        return ImageChecks([missing], rows[:0], 0)
    paths = table.image_paths(image_root)
    is_missing = ~_are_files(paths)
    rows = rows[~is_missing[rows]]
    outcomes = dict(zip(rows.tolist(), _read_all(paths, rows, read_facts)))
    unreadable = {row: reason for row, reason in outcomes.items() if isinstance(reason, str)}
    facts = {row: found for row, found in outcomes.items() if not isinstance(found, str)}
    differing = {row: f for row, f in facts.items() if f[:2] != tuple(table.sizes[row].tolist())}
    usable = np.array([row for row in facts if row not in differing], dtype=np.int64)
    findings = _find_problems(table, image_root, np.flatnonzero(is_missing), unreadable, differing)
    if skips_unreadable:
        findings = [
            replace(finding, is_error=False, consequence="skipped and counted")
            for finding in findings
        ]
    return ImageChecks(findings + _find_narrow_ranges(table, facts), usable, len(rows))


def _find_problems(
    table: CocoTable,
    image_root: str | Path,
    missing: np.ndarray,
    unreadable: Mapping[int, str],
    differing: Mapping[int, ImageFacts],
) -> list[Finding]:
    """Report files that are missing, unreadable, or of another size than the annotations state."""
    paths = table.image_paths(image_root)

    def why_missing(row: int) -> str:
        if os.path.exists(paths[row]):
            return f"can't be read ({NO_FILE})"
        return f"does not exist{hint_at_file(image_root, table.file_names[row])}"

    def why_unreadable(row: int) -> str:
        return f"can't be read ({unreadable[row]})"

    def both_sizes(row: int) -> str:
        stated, facts = table.sizes[row].tolist(), differing[row]
        return "has {} x {} pixels, but the annotations say {} x {}".format(*facts[:2], *stated)

    findings: list[Finding] = []
    for kind, what, rows, predicate in (
        ("missing_image", "images that are not in the folder", missing, why_missing),
        ("unreadable_image", "images that can't be read", unreadable, why_unreadable),
        ("wrong_size", "images of another size than the annotations say", differing, both_sizes),
    ):
        findings += make_findings(
            kind, what, rows, lambda row: table.image_example(row, predicate(row))
        )
    return findings


def _find_narrow_ranges(table: CocoTable, facts: Mapping[int, ImageFacts]) -> list[Finding]:
    """Warn of images that are nearly of one colour for the network."""
    ranges = {row: found.value_range for row, found in facts.items() if found.value_range}
    return make_warnings(
        "narrow_range",
        f"images whose pixels span less than {_NARROW} of 256 levels",
        [row for row, (low, high) in ranges.items() if high - low < _NARROW],
        lambda row: table.image_example(row, "has values from {} to {}".format(*ranges[row])),
        total=len(ranges),
        consequence="there may be nothing to see; does INPUT.BIT_DEPTH fit?",
    )


def read_header(path: str, bit_depth: int = 8) -> ImageFacts:
    """Read the size of the upright image, without decoding its pixels.

    Raises:
        READ_ERRORS: the file is not an image, or has more bits than ``bit_depth`` allows.
    """
    with Image.open(path) as image:
        check_depth(image, bit_depth)
        return ImageFacts(*upright_size(image))


def decode(path: str, bit_depth: int = 8) -> ImageFacts:
    """Decode an image completely.

    Raises:
        READ_ERRORS: the file is damaged or not an image, or has values beyond the bit depth.
    """
    pixels = read_image(path, bit_depth=bit_depth)
    height, width = pixels.shape[:2]
    return ImageFacts(width, height, (int(pixels.min()), int(pixels.max())))


def _read_all(
    paths: Sequence[str], rows: np.ndarray, read_facts: Callable[[str], ImageFacts]
) -> list[ImageFacts | str]:
    """Read images in parallel, or tell why one is unreadable."""

    def outcome(row: int) -> ImageFacts | str:
        try:
            return read_facts(paths[row])
        except READ_ERRORS as error:
            return reason_of(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # of Pillow, about files that it can read
        return list(pool.map(outcome, rows.tolist()))


def _are_files(paths: Sequence[str]) -> np.ndarray:
    """Mask of the paths that are files, bool (len(paths),)."""
    rows_of = defaultdict(list)
    for row, path in enumerate(paths):
        rows_of[os.path.dirname(path)].append(row)
    is_file = np.zeros(len(paths), dtype=bool)
    for folder, rows in rows_of.items():
        files = _files_in(folder) if len(rows) > _MANY_FILES else set()
        for row in rows:
            is_file[row] = os.path.basename(paths[row]) in files or os.path.isfile(paths[row])
    return is_file


def _files_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return set()
