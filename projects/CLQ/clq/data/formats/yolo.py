"""Read YOLO data sets: a data.yaml, or a folder with images, labels and classes.txt."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ..coco.findings import quote_unprintable
from .content import Annotations, LabeledImage, Problems, make_content
from .data_yaml import read_data_yaml
from .files import CLASS_FILES, files_by_stem, read_class_names, read_lines, read_size, walk_files
from .layout import Layout, split_folder
from .yolo_files import LabeledFiles, match_labels, usual_folders
from .yolo_labels import parse_labels


def find_yaml_layout(file: Path, split: str, image_root: str) -> Layout:
    """Find the files of one split of a data.yaml.

    Labels are looked for where the last ``/images/`` of an image's path is replaced by
    ``/labels/``, and beside the image.

    Args:
        file: the data.yaml.
        split: key of the file, such as ``train``.
        image_root: folder that its paths start from; empty for its ``path``.

    Raises:
        OSError: a file can't be read.
        ValueError: one sentence on what the file lacks.
    """
    data = read_data_yaml(file)
    root = os.path.abspath(image_root) if image_root else data.root
    folders, listed, lists = data.places(split, root)
    images = match_labels(folders, listed, usual_folders)
    read = partial(_read, images, data.class_names, root, data.has_keypoints)
    return Layout([str(file), *lists, *images.paths], read)


def find_folder_layout(folder: Path, split: str, image_root: str) -> Layout:
    """Find the files of a YOLO folder without data.yaml, or of one split that is a subfolder.

    Args:
        folder: with ``images`` and ``labels``, or with both in one folder; or labels alone.
        split: name of a subfolder of the images; empty for all.
        image_root: folder of the images, if not that.

    Raises:
        OSError: a file can't be read.
        ValueError: nothing names the classes, or there is no such split.
    """
    root = os.path.abspath(image_root or default_image_root(folder))
    base = split_folder(Path(root), split) if split else Path(root)
    if base is None:
        raise ValueError(f"{root} has no folder of the split '{split}'.")
    named = read_class_names(folder, folder / "labels", folder.parent)
    if named is None:
        raise ValueError(
            f"nothing names the classes of {folder}: write their names into {folder}/classes.txt, "
            "one a line in the order of the labels' numbers, or name a data.yaml."
        )
    class_names, file = named
    source = os.path.abspath(folder)
    if Path(root).is_relative_to(source):
        label_folders: Callable[[str], list[str]] = usual_folders
    else:  # labels and images lie apart

        def label_folders(image_folder: str) -> list[str]:
            below = os.path.relpath(image_folder, root)
            apart = (os.path.join(source, name, below) for name in ("", "labels"))
            return [*map(os.path.normpath, apart), *usual_folders(image_folder)]

    images = match_labels([str(base)], [], label_folders)
    read = partial(_read, images, class_names, root, False)
    return Layout([str(file), *images.paths], read)


def default_image_root(folder: Path) -> Path:
    """Return the folder of the images of a YOLO folder."""
    return folder / "images" if (folder / "images").is_dir() else folder


def is_yolo_folder(folder: Path) -> bool:
    """Tell whether a folder without data.yaml looks like one with YOLO labels."""
    if (folder / "labels").is_dir() or any((folder / name).is_file() for name in CLASS_FILES):
        return True
    parents = (parent for parent, _ in walk_files(folder))
    return any(files_by_stem(parent, ".txt").keys() & files_by_stem(parent) for parent in parents)


def _read(
    images: LabeledFiles, class_names: Sequence[str], root: str, has_keypoints: bool
) -> Annotations:
    """Read all label files, and the sizes of all images."""
    problems = Problems()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = dict(zip(images.labels_of, pool.map(read_size, images.labels_of)))
    found = []
    for path, labels in images.labels_of.items():
        size = sizes[path]
        if isinstance(size, str):
            _add_unreadable(problems, path, size)
            continue
        if len(labels) > 1:
            what = "images with two label files"
            predicate = f"has the label files {' and '.join(map(quote_unprintable, labels[:2]))}"
            problems.add("two_label_files", what, path, predicate, role="image")
        lines = _read_label(labels[0], problems) if labels else []
        label = parse_labels(lines, size, len(class_names), has_keypoints=has_keypoints)
        for number, predicate in label.problems:
            what, role = "lines of label files", f"line {number} of"
            problems.add("bad_label_line", what, labels[0], predicate, role=role)
        found.append(LabeledImage(path, *size, label.objects))
    for first, second in images.same_stem:
        what = "images that share their label file"
        predicate = f"has the stem of {quote_unprintable(first)}, too: rename one of them"
        problems.add("same_stem", what, second, predicate, role="image")
    for file in images.without_image:
        if _has_objects(file):
            problems.add(
                "label_without_image",
                "label files without an image",
                file,
                "has no image of its stem",
                role="label file",
                consequence="their objects are not learned",
            )
    return Annotations(make_content(found, class_names, root), problems.findings())


def _add_unreadable(problems: Problems, path: str, reason: str) -> None:
    if os.path.lexists(path):
        kind, what = "unreadable_image", "images that can't be read"
        predicate = f"can't be read ({reason})"
    else:
        kind, what = "missing_image", "images that are not in the folder"
        predicate = "does not exist"
    problems.add(kind, what, path, predicate, role="image")


def _read_label(file: str, problems: Problems) -> list[str]:
    try:
        return read_lines(file)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).removeprefix(f"{file} ").rstrip(".")
        what = "label files that can't be read"
        problems.add("bad_label", what, file, f"can't be read ({reason})", role="label file")
        return []


def _has_objects(file: str) -> bool:
    """Tell labels from other texts, such as a README, by the numbers that they begin with."""
    try:
        words = " ".join(read_lines(file)).split(maxsplit=2)
    except (OSError, ValueError):
        return False
    return len(words) > 1 and all(word.replace(".", "", 1).isdecimal() for word in words[:2])
