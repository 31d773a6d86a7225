"""Read a COCO json in any of the notations that tools write it in."""

import json
from pathlib import Path
from typing import Any

_NUMBERS = {
    "images": ("id", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "area", "iscrowd"),
    "categories": ("id",),
}


def read_coco_json(path: str | Path) -> Any:
    """Read a json of UTF-8, 16 or 32, with or without a byte order mark, in COCO's own notation.

    Whole numbers may be written as ``640.0`` or ``"640"``, boxes as texts, folders of file names
    by backslashes, and ``iscrowd`` as null. What is neither COCO's nor one of these stays as it is.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not json, or has a list twice, of which a reader of json takes the last.
    """
    data = Path(path).read_bytes()
    text = data.decode(json.detect_encoding(data))
    # To look at the keys of every object takes long.
    may_repeat = any(text.count(f'"{section}"') > 1 for section in _NUMBERS)
    content = json.loads(text, object_pairs_hook=_with_one_of_each if may_repeat else None)
    for section, keys in _NUMBERS.items():
        entries = content.get(section) if isinstance(content, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                _convert(entry, keys)
    return content


def _with_one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        for section in _NUMBERS:
            if keys.count(section) > 1:
                raise ValueError(f"it has '{section}' twice; make them one list")
    return entry


def _convert(entry: dict[str, Any], number_keys: tuple[str, ...]) -> None:
    """Change an entry of a list in place, see :func:`read_coco_json`."""
    for key in number_keys:
        if type(entry.get(key)) in (str, float):
            entry[key] = _number(entry[key])
    box = entry.get("bbox")
    if isinstance(box, list) and any(type(side) is str for side in box):
        entry["bbox"] = [_number(side) for side in box]
    if entry.get("iscrowd", 0) is None:
        entry["iscrowd"] = 0
    if isinstance(entry.get("file_name"), str):
        entry["file_name"] = entry["file_name"].replace("\\", "/")


def _number(value: Any) -> Any:
    """Return the number that a text states, an integer if it is whole; or the value itself."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    if not number.is_integer():
        return number
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else int(number)
