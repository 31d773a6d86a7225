"""The files of one split, found but not read."""

import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

from .content import Annotations


class Layout(NamedTuple):
    """Files that the annotations of a split are read from.

    Attributes:
        files: that are read, besides images in the YOLO form for their size; and the folders that
            are searched, whose modification time tells of files that came or went.
        read: reads them.
    """

    files: Sequence[str]
    read: Callable[[], Annotations]

    def fingerprint(self) -> Hashable:
        """Return what changes with the name, modification time or size of a file."""
        return hash(tuple(map(_version, self.files)))

    def last_change(self) -> float:
        """Return the latest modification time of the files, in seconds."""
        return max(
            (os.stat(file).st_mtime for file in self.files if os.path.exists(file)), default=0
        )


def _version(file: str) -> Hashable:
    try:
        stat = os.stat(file)
    except OSError:
        return file, None
    return file, stat.st_mtime_ns, stat.st_size


def split_folder(folder: Path, split: str) -> Path | None:
    """Return the subfolder of a split, which Roboflow calls "valid"."""
    for name in (split, *(("valid",) if split == "val" else ())):
        if (folder / name).is_dir():
            return folder / name
    return None
