"""Read a YOLO data.yaml: class names, and where each split's images lie."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ...config.read_yaml import parse_yaml
from ..coco.findings import short_repr
from .files import read_lines


class DataYaml(NamedTuple):
    """Content of a data.yaml.

    Attributes:
        file: its path.
        root: absolute folder that its paths start from.
        class_names: by class index.
        has_keypoints: each line has keypoints behind its box.
        entries: folders, images and lists by split, as written.
    """

    file: Path
    root: str
    class_names: list[str]
    has_keypoints: bool
    entries: dict[str, list[str]]

    def places(self, split: str, root: str) -> tuple[list[str], list[str], list[str]]:
        """Find the folders of a split, the images that its lists name, and the lists.

        Args:
            split: key of the file.
            root: absolute folder that its paths start from.

        Raises:
            OSError: a list can't be read.
            ValueError: the file has no such split, or names a path that does not exist.
        """
        if not self.entries:
            raise ValueError(
                f"{self.file} has none of `train`, `val` and `test`, which name the images."
            )
        if split not in self.entries:
            known = ", ".join(self.entries)
            raise ValueError(f"{self.file} names no images for '{split}'; its splits are: {known}.")
        folders, listed, lists = [], [], []
        for entry in self.entries[split]:
            place = _find_place(entry, root)
            if os.path.isdir(place):
                folders.append(place)
            elif os.path.isfile(place) and place.lower().endswith(".txt"):
                lists.append(place)
                listed += [_listed(line, place, root) for line in read_lines(place) if line]
            else:
                raise ValueError(
                    f"'{split}' of {self.file} is {entry}, but {place} is neither a folder nor a "
                    ".txt with the paths of images; correct it, or `path` of the file."
                )
        return folders, listed, lists


def read_data_yaml(file: Path) -> DataYaml:
    """Read a data.yaml.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no yaml, names no classes, or its ``path`` does not exist.
    """
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no file.")
    try:
        content = parse_yaml(file.read_text(encoding="utf-8-sig"), only_texts=True)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file} is no yaml: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict) or "names" not in content:
        raise ValueError(
            f"{file} has no `names`, the class names of a YOLO data set in the order of its "
            "labels' numbers."
        )
    names = _class_names(content["names"], file)
    if content.get("nc", str(len(names))) != str(len(names)):
        raise ValueError(
            f"{file} has nc {short_repr(content['nc'])}, but {len(names)} names; correct one."
        )
    return DataYaml(
        file, _find_root(content, file), names, "kpt_shape" in content, _read_entries(content, file)
    )


def _read_entries(content: dict[str, Any], file: Path) -> dict[str, list[str]]:
    """Return the entries of each split; ``valid`` is another name of ``val``."""
    if content.get("val") and content.get("valid"):
        raise ValueError(f"{file} has both `val` and `valid`; leave one out.")
    entries = {}
    for key in ("train", "val", "test"):
        value = content.get(key) or (content.get("valid") if key == "val" else None) or []
        value = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) and entry for entry in value):
            raise ValueError(f"'{key}' of {file} must be a path or a list of paths.")
        if value:
            entries[key] = value
    return entries


def _class_names(names: Any, file: Path) -> list[str]:
    if isinstance(names, dict):
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise ValueError(
                f"the names of {file} must be numbered 0 to {len(names) - 1}, not "
                f"{short_repr(list(names))}."
            )
        names = [names[str(index)] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f"the names of {file} must be a list of class names, or a name a number.")
    if not all(name.strip() for name in names):
        raise ValueError(f"name {[n.strip() for n in names].index('')} of {file} is empty.")
    return names


def _find_root(content: dict[str, Any], file: Path) -> str:
    """Return the absolute folder of ``path``, which may start from the file or from here."""
    path = content.get("path") or ""
    if not isinstance(path, str):
        raise ValueError(f"`path` of {file} must be one folder.")
    path = os.path.expanduser(path)
    places = [os.path.abspath(os.path.join(start, path)) for start in (file.parent, "")]
    for place in places:
        if os.path.isdir(place):
            return place
    raise ValueError(
        f"`path` of {file} is {path}, which does not exist; correct it, or leave it out if the "
        "other paths start from the file's own folder."
    )


def _find_place(entry: str, root: str) -> str:
    """Return the absolute path of a split's entry; Roboflow writes ../ for the root itself."""
    entry = os.path.expanduser(entry)
    place = os.path.abspath(os.path.join(root, entry))
    if not os.path.exists(place) and entry.startswith("../"):
        place = os.path.abspath(os.path.join(root, entry.removeprefix("../")))
    return place


def _listed(line: str, list_file: str, root: str) -> str:
    """Return the absolute path of an image in a list: from the list with ./, else from the root."""
    beside = os.path.dirname(list_file)
    starts: Sequence[str] = [beside] if line.startswith("./") else [root, beside, ""]
    places = [os.path.abspath(os.path.join(start, line)) for start in starts]
    return next(filter(os.path.exists, places), places[0])
