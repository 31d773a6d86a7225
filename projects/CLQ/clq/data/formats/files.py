"""Image and label files in folders, matched by their exact stems."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import Image

from ...runtime.images import IMAGE_SUFFIXES, READ_ERRORS, reason_of, upright_size

# Files beside labels that name the classes, one a line.
CLASS_FILES = ("classes.txt", "labels.txt", "obj.names")


def walk_files(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Walk a folder and its subfolders, through symbolic links, each folder once.

    Hidden files and folders, such as ``._a.jpg`` and ``.DS_Store``, are passed over.

    Yields:
        A folder and the sorted names of its files.
    """
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(name for name in names if not name.startswith("."))


def is_image(name: str) -> bool:
    """Tell from a file's name whether it is an image."""
    return has_suffix(name, *IMAGE_SUFFIXES)


def has_suffix(name: str, *suffixes: str) -> bool:
    """Tell whether a file's name ends in a suffix, in letters of any case, and is not hidden."""
    return os.path.splitext(name)[1].lower() in suffixes and not name.startswith(".")


def files_by_stem(folder: str | Path, suffix: str = "") -> dict[str, list[str]]:
    """Return the sorted paths of a folder's files by stem: all of the name but the last suffix.

    Args:
        folder: empty result if there is none.
        suffix: of the files in lower case; empty for images.
    """
    found = defaultdict(list)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if has_suffix(name, suffix) if suffix else is_image(name):
            found[os.path.splitext(name)[0]].append(os.path.join(folder, name))
    return dict(found)


def index_below(folder: str, suffix: str = "") -> dict[str, list[str]]:
    """Return the paths of all files below a folder by stem, with the subfolder: ``cam1/a``.

    Args:
        folder: empty result if there is none.
        suffix: as of :func:`files_by_stem`.
    """
    found = {}
    for parent, _ in walk_files(folder):
        below = os.path.relpath(parent, folder).replace(os.sep, "/")
        for stem, paths in files_by_stem(parent, suffix).items():
            found[posixpath.normpath(posixpath.join(below, stem))] = paths
    return found


def read_size(path: str) -> tuple[int, int] | str:
    """Return width and height of an upright image in pixels, or why it can't be read.

    Sizes are cached by the file's version.
    """
    try:
        stat = os.stat(path)
        return _size_of_version(path, stat.st_mtime_ns, stat.st_size)
    except READ_ERRORS as error:
        return reason_of(error)


@lru_cache(maxsize=2**18)
def _size_of_version(path: str, mtime_ns: int, size: int) -> tuple[int, int]:
    if not os.path.isfile(path):  # a FIFO would be waited for
        raise OSError("it is no file")
    with Image.open(path) as image:
        return upright_size(image)


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text, stripped.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no text in UTF-8; the message names it.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is no file.")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason}).") from None
    return [line.strip() for line in text.splitlines()]


def read_class_names(*folders: Path) -> tuple[list[str], Path] | None:
    """Read the class names beside labels, and their file; None if there is no such file.

    Args:
        folders: that may hold one of ``CLASS_FILES``; the first is taken.

    Raises:
        ValueError: the file is no text, or has an empty line between two names.
    """
    for file in (folder / name for folder in folders for name in CLASS_FILES):
        if file.is_file():
            names = read_lines(file)
            while names and not names[-1]:
                names.pop()
            if "" in names:
                raise ValueError(f"line {names.index('') + 1} of {file} names no class.")
            return names, file
    return None
