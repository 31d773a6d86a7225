"""Label file of each image of a YOLO data set."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

from .files import CLASS_FILES, files_by_stem, has_suffix, is_image, walk_files

_IMAGES, _LABELS = (f"{os.sep}{name}{os.sep}" for name in ("images", "labels"))


class LabeledFiles(NamedTuple):
    """Images of a split with the label files of their stems, and what else belongs to it."""

    labels_of: dict[str, list[str]]  # by the image's path
    same_stem: list[tuple[str, str]]  # images that would share their labels
    without_image: list[str]  # label files
    folders: list[str]  # that were searched, which need not exist

    @property
    def paths(self) -> list[str]:
        """All images and label files, and the folders that were searched."""
        labels = (label for labels in self.labels_of.values() for label in labels)
        return [*self.labels_of, *labels, *self.without_image, *self.folders]


def usual_folders(image_folder: str) -> list[str]:
    """Return the folders that may hold the labels of a folder's images."""
    head, found, tail = os.path.join(image_folder, "").rpartition(_IMAGES)
    swapped = [os.path.normpath(head + _LABELS + tail)] if found else []
    return [*swapped, image_folder]


def match_labels(
    folders: Sequence[str], listed: Sequence[str], label_folders: Callable[[str], list[str]]
) -> LabeledFiles:
    """Give each image the label files of its stem.

    Args:
        folders: all of whose images belong to the split.
        listed: further images.
        label_folders: that may hold the labels of a folder's images.
    """
    texts_in = cache(partial(files_by_stem, suffix=".txt"))
    labels_of: dict[str, list[str]] = {}
    first: dict[tuple[str, str], str] = {}
    same_stem = []
    in_folders = (path for folder in folders for path in _images_below(folder))
    for path in (*in_folders, *listed):
        parent, name = os.path.split(path)
        stem = os.path.splitext(name)[0]
        other = first.setdefault((parent, stem), path)
        if other != path and path not in labels_of:
            same_stem.append((other, path))
        places = dict.fromkeys(label_folders(parent))
        labels_of[path] = [label for place in places for label in texts_in(place).get(stem, [])]
    used = {label for labels in labels_of.values() for label in labels}
    searched = dict.fromkeys(place for folder in folders for place in label_folders(folder))
    without = {path: None for place in searched for path in labels_below(place) if path not in used}
    parents = dict.fromkeys([*folders, *map(os.path.dirname, labels_of)])
    around = dict.fromkeys(place for parent in parents for place in label_folders(parent))
    return LabeledFiles(labels_of, same_stem, list(without), list(parents | around))


def _images_below(folder: str) -> Iterator[str]:
    for parent, names in walk_files(folder):
        yield from (os.path.join(parent, name) for name in names if is_image(name))


def labels_below(folder: str) -> Iterator[str]:
    """Yield the paths of all texts below a folder that may be label files."""
    for parent, names in walk_files(folder):
        for name in names:
            if has_suffix(name, ".txt") and name not in CLASS_FILES:
                yield os.path.join(parent, name)
