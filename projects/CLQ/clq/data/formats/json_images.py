"""Look for the images of a COCO json beside it."""

import os
from pathlib import Path
from typing import Any

from ..coco.dialect import read_coco_json


def find_json_images(json_file: Path) -> list[Path]:
    """Return the folders beside a json that have its first image.

    Looked at are the json's folder and the one above, and in both ``images`` and the folder of the
    json's own name, without the ``instances_`` of COCO.
    """
    try:
        name = _first_name(read_coco_json(json_file))
    except (OSError, ValueError, RecursionError):  # told where the json is read for its content
        return []
    own = json_file.stem.removeprefix("instances_")
    folders = [home / below for home in _homes(json_file) for below in ("", "images", own)]
    return [folder for folder in folders if name and os.path.isfile(folder / name)]


def _homes(json_file: Path) -> list[Path]:
    return [json_file.parent, Path(os.path.normpath(json_file.parent / ".."))]


def _first_name(content: Any) -> str:
    images = content.get("images") if isinstance(content, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    name = first.get("file_name") if isinstance(first, dict) else None
    return name if isinstance(name, str) else ""
