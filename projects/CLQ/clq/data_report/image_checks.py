"""Check that image files exist, are readable and have the size that the json states.

Letters: N images of a json.
"""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.coco.findings import Example, Finding, make_findings, quote_unprintable
from ..data.coco.table import CocoTable
from ..data.images import READ_ERRORS, read_image, reason_of

_MANY_FILES = 100  # in one folder, which is then listed instead of checking each file
_EXIF_ORIENTATION = 0x0112
_TRANSPOSED = (5, 6, 7, 8)

# The reason why an image is unreadable, its actual width and height if wrong, or None.
Problem = str | tuple[int, int] | None


class ImageChecks(NamedTuple):
    """Result of checking the image files of a data set.

    Attributes:
        findings: on unusable files.
        usable: indices of the images that were read and match the json.
        num_read: number of images that were read.
    """

    findings: list[Finding]
    usable: np.ndarray
    num_read: int


def check_images(
    table: CocoTable,
    image_root: str | Path,
    rows: np.ndarray,
    read_size: Callable[[str], tuple[int, int]],
    *,
    skips_unreadable: bool = False,
) -> ImageChecks:
    """Check that all image files exist, and read some of them.

    Args:
        table: N images.
        image_root: folder that their names start from.
        rows: indices of the images to read.
        read_size: gives width and height of a file, such as :func:`header_size`.
        skips_unreadable: report unusable files as warnings, since training skips them.
    """
    if not os.path.isdir(image_root):
        missing_folder = Example(
            "", f"needs the image folder {quote_unprintable(str(image_root))}, which does not exist"
        )
        findings = make_findings(
            "missing_folder", "image folders that do not exist", [0], lambda _: missing_folder
        )
        return ImageChecks(findings, rows[:0], 0)
    paths = [os.path.join(image_root, name) for name in table.file_names]
    is_missing = ~_are_files(paths)
    rows = rows[~is_missing[rows]]
    problems = dict(zip(rows.tolist(), _read_sizes(table, paths, rows, read_size)))
    findings = _find_problems(table, paths, np.flatnonzero(is_missing), problems)
    if skips_unreadable:
        findings = [
            replace(finding, is_error=False, consequence="skipped and counted")
            for finding in findings
        ]
    usable = [row for row, problem in problems.items() if problem is None]
    return ImageChecks(findings, np.array(usable, dtype=np.int64), len(rows))


def _find_problems(
    table: CocoTable, paths: Sequence[str], missing: np.ndarray, problems: dict[int, Problem]
) -> list[Finding]:
    """Report files that are missing, unreadable, or of another size than the json states."""

    def state(row: int) -> str:
        problem = problems.get(row)
        if problem is None:
            return "is a folder" if os.path.isdir(paths[row]) else "does not exist"
        if isinstance(problem, str):
            return f"can't be read ({problem})"
        width, height = table.sizes[row].tolist()
        return "has {} x {} pixels, but the json says {} x {}".format(*problem, width, height)

    findings: list[Finding] = []
    for kind, what, rows in (
        ("missing_image", "images that are not in the folder", missing),
        (
            "unreadable_image",
            "images that can't be read",
            [row for row, problem in problems.items() if isinstance(problem, str)],
        ),
        (
            "wrong_size",
            "images of another size than the json says",
            [row for row, problem in problems.items() if isinstance(problem, tuple)],
        ),
    ):
        findings += make_findings(
            kind, what, rows, lambda row: table.image_example(row, state(row))
        )
    return findings


def header_size(path: str) -> tuple[int, int]:
    """Read width and height of the upright image, without decoding its pixels.

    Raises:
        READ_ERRORS: the file is not an image.
    """
    with Image.open(path) as image:
        # The base class's method, since that of PNG decodes all pixels.
        orientation = Image.Image.getexif(image).get(_EXIF_ORIENTATION)
        width, height = image.size
    return (height, width) if orientation in _TRANSPOSED else (width, height)


def decoded_size(path: str) -> tuple[int, int]:
    """Decode an image completely and return its width and height.

    Raises:
        READ_ERRORS: the file is damaged or not an image.
    """
    height, width = read_image(path).shape[:2]
    return width, height


def _read_sizes(
    table: CocoTable,
    paths: Sequence[str],
    rows: np.ndarray,
    read_size: Callable[[str], tuple[int, int]],
) -> list[Problem]:
    """Read images in parallel and return the problem of each."""

    def problem(row: int) -> Problem:
        try:
            size = read_size(paths[row])
        except READ_ERRORS as error:
            return reason_of(error)
        return None if size == tuple(table.sizes[row].tolist()) else size

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # of Pillow, about files that it can read
        return list(pool.map(problem, rows.tolist()))


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
