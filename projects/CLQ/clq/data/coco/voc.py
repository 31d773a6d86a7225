"""Read Pascal VOC xml annotations and convert their boxes to COCO format."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NamedTuple

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


class VocImage(NamedTuple):
    """Content of one xml file.

    Attributes:
        width: in pixels.
        height: in pixels.
        objects: class name and box of each, with the numbers as written.
    """

    width: int
    height: int
    objects: list[tuple[str, Box]]


def read_voc(xml_file: Path) -> VocImage:
    """Read a Pascal VOC xml file.

    Raises:
        OSError: the file is missing.
        ValueError: it is not xml, or a name, a size or a corner is missing or not a number.
    """
    try:
        root = ElementTree.parse(xml_file).getroot()
        objects = [
            (_text(entry, "name"), _box(entry.find("bndbox"))) for entry in root.iter("object")
        ]
        width, height = (int(_text(root, f"size/{side}")) for side in ("width", "height"))
        return VocImage(width, height, objects)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{xml_file} is not an annotation of Pascal VOC: {error}.") from None


def coco_annotation(id_: int, image_id: int, category_id: int, box: Box) -> dict[str, Any]:
    """Make an annotation of a COCO json."""
    width, height = box[2] - box[0], box[3] - box[1]
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [box[0], box[1], width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def _box(entry: ElementTree.Element | None) -> Box:
    if entry is None:
        raise ValueError("an object has no bndbox")
    x0, y0, x1, y1 = (float(_text(entry, corner)) for corner in ("xmin", "ymin", "xmax", "ymax"))
    return x0, y0, x1, y1


def _text(entry: ElementTree.Element, path: str) -> str:
    text = entry.findtext(path)
    if text is None:
        raise ValueError(f"<{entry.tag}> has no {path}")
    return text.strip()
