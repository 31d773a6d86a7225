"""Tell the format of annotations by looking, and resolve what a user names to one split."""

import os
import re
from pathlib import Path

from ..coco.dialect import read_coco_json
from ..coco.table import CocoFiles
from . import voc, yolo
from .content import Annotations
from .data_yaml import read_data_yaml
from .files import has_suffix
from .layout import Layout, split_folder
from .yolo_files import labels_below

_YAML = (".yaml", ".yml")
_YOLO_KEY = re.compile(rb"^[\"']?(names|train|val|valid|test)\b", re.MULTILINE)


def resolve_data(
    source: str | Path,
    images: str | Path = "",
    *,
    role: str = "train",
    needs_images: bool = True,
) -> CocoFiles:
    """Resolve what a user names as data to the annotations of one split and its image folder.

    Args:
        source: a COCO json, a YOLO data.yaml, or a folder in the form of YOLO or Pascal VOC; of
            several splits ``SOURCE:SPLIT`` names one.
        images: folder that the images' file names start from; empty for that of the data, which
            is looked for beside a json.
        role: ``train`` or ``val``, the split where ``source`` names none; empty for the only one.
        needs_images: reject a json whose images are not found; else their folder stays empty.

    Returns:
        Files that :func:`clq.data.formats.read.read_annotations` reads. Resolved once more, they
        stay the same.

    Raises:
        OSError: a file can't be read.
        ValueError: one sentence on what is missing, or fits several formats.
    """
    if not str(source):
        raise ValueError("the name of the data is empty; the current folder is '.'.")
    path, split = parse_source(source)
    if is_json(path):
        if split:
            raise ValueError(
                f"{path} is taken for a COCO json, which has no splits; leave ':{split}' out."
            )
        return CocoFiles(path, Path(images) if str(images) else _images_of_json(path, needs_images))
    _check_unambiguous(path, images)
    path = _yaml_in(path) or path
    split = split or _choose_split(path, images, role)
    named = Path(f"{path}:{split}") if split else path
    return CocoFiles(named, Path(images) if str(images) else _image_root(path))


def parse_source(source: str | Path) -> tuple[Path, str]:
    """Separate the path of annotations from the name of a split, which may be empty."""
    text = str(source)
    head, _, split = text.rpartition(":")
    if head and split and not os.path.exists(text) and os.path.exists(head):
        return Path(head), split
    return Path(text), ""


def is_json(source: str | Path) -> bool:
    """Tell whether a source is taken for a COCO json: no folder and no yaml."""
    path, _ = parse_source(source)
    return not os.path.isdir(path) and path.suffix.lower() not in _YAML


def find_layout(source: str | Path, image_root: str | Path = "") -> Layout:
    """Find the files of a resolved split.

    Args:
        source: of :func:`resolve_data`.
        image_root: likewise; empty for that of the data.

    Raises:
        OSError: a file can't be read.
        ValueError: one sentence on what is missing.
    """
    path, split = parse_source(source)
    if is_json(path):
        return Layout([str(source)], lambda: Annotations(read_coco_json(source)))
    path = _yaml_in(path) or path
    if not os.path.exists(path):
        raise ValueError(f"{path} does not exist.")
    root = str(image_root)
    if path.is_file():
        return yolo.find_yaml_layout(path, split, root)
    if voc.annotation_folder(path):
        return voc.find_layout(path, split, root)
    return yolo.find_folder_layout(path, split, root)


def _yaml_in(folder: Path) -> Path | None:
    """Return the data.yaml of a folder, which may have another name if it is the only one."""
    if not folder.is_dir():
        return None
    files = [path for path in sorted(folder.iterdir()) if has_suffix(path.name, *_YAML)]
    texts = {path: path.read_bytes() for path in files if path.is_file()}
    found = [path for path, text in texts.items() if b"names:" in text]
    # Without names, it is refused by them where it is read.
    named = [path for path in texts if path.stem == "data" and _YOLO_KEY.search(texts[path])]
    return next(iter(named or (found if len(found) == 1 else [])), None)


def _check_unambiguous(path: Path, images: str | Path) -> None:
    """Reject what is in no format or, as a folder, in several.

    Args:
        path: of the data.
        images: their folder, if it was named; the data may be labels alone then.

    Raises:
        ValueError: naming it.
    """
    if not os.path.exists(path):
        raise ValueError(f"{path} does not exist.")
    if path.is_file():
        return
    xml_folder, yaml = voc.annotation_folder(path), _yaml_in(path)
    labels = path / "labels" if (path / "labels").is_dir() else None
    if xml_folder and (yaml or labels):
        raise ValueError(
            f"{path} is of Pascal VOC by {xml_folder} and of YOLO by {yaml or labels}; name one of "
            "these, and the image folder behind it."
        )
    is_yolo = yolo.is_yolo_folder(path) or (str(images) and any(labels_below(str(path))))
    if not xml_folder and not yaml and not is_yolo:
        json_file = next(iter(sorted(path.glob("**/*.json"))), None)
        hint = (
            f"; name the JSON file, such as {json_file}, and its image folder" if json_file else ""
        )
        raise ValueError(
            f"{path} has neither a data.yaml, nor folders 'images' and 'labels' (YOLO), nor xml "
            f"files in 'Annotations' (Pascal VOC){hint}."
        )


def _choose_split(path: Path, images: str | Path, role: str) -> str:
    """Return the split of a role; empty where the data has none.

    Raises:
        ValueError: naming the splits that there are.
    """
    splits = _splits_of(path, images)
    if role and not path.is_file() and voc.annotation_folder(path):
        return voc.choose_split(path, splits, role)
    if len(splits) < 2 and not role:
        return "".join(splits)
    if role in splits or not splits:
        return role if splits else ""
    wanted = f"no split '{role}'; it has" if role else "several splits:"
    raise ValueError(
        f"{path} has {wanted} {', '.join(splits)}; name one of them, as in {path}:{splits[0]}."
    )


def _splits_of(path: Path, images: str | Path) -> list[str]:
    """Return the names of all splits."""
    if path.is_file():
        return list(read_data_yaml(path).entries)
    if voc.annotation_folder(path):
        return voc.list_splits(path)
    root = Path(images) if str(images) else yolo.default_image_root(path)
    return [name for name in ("train", "val", "test") if split_folder(root, name)]


def _images_of_json(path: Path, needs_images: bool) -> Path:
    """Return the only folder beside a json that has its images.

    Raises:
        ValueError: there is no such folder, or several, and ``needs_images``.
    """
    if not os.path.isfile(path):
        raise ValueError(f"{path} does not exist.")
    found = _folders_beside(path)
    if len(found) == 1 or not needs_images:
        return found[0] if len(found) == 1 else Path()
    where = f"; they may be in {found[0]} or {found[1]}" if found else ""
    raise ValueError(
        f"{path} is taken for a COCO json, which does not tell where its images are; name their "
        f"folder behind it{where}."
    )


def _folders_beside(json_file: Path) -> list[Path]:
    """Return the folders that have the first image of a json.

    Looked at are the json's folder and the one above, and in both ``images`` and the folder of the
    json's own name, without the ``instances_`` of COCO.
    """
    try:
        name = Path(read_coco_json(json_file)["images"][0]["file_name"])
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ):  # reported where the json is read
        return []
    own = json_file.stem.removeprefix("instances_")
    homes = json_file.parent, Path(os.path.normpath(json_file.parent / ".."))
    folders = [home / below for home in homes for below in ("", "images", own)]
    return [folder for folder in folders if os.path.isfile(folder / name)]


def _image_root(path: Path) -> Path:
    if path.is_file():
        return Path(read_data_yaml(path).root)
    find = voc if voc.annotation_folder(path) else yolo
    return find.default_image_root(path)
