"""Read Pascal VOC xml annotations."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from .content import Box

_DIFFICULT = {"": False, "0": False, "false": False, "unspecified": False, "1": True, "true": True}


class VocObject(NamedTuple):
    """An object of an xml file.

    Attributes:
        name: of its class.
        box: with the numbers as written.
        is_difficult: VOC's evaluation counts it neither as found nor as missed.
    """

    name: str
    box: Box
    is_difficult: bool = False


class VocImage(NamedTuple):
    """Content of one xml file.

    Attributes:
        width: in pixels; 0 where the file states no size.
        height: likewise.
        objects: in the order of the file.
        file_name: last part of the image's name that the file states; empty if it states none.
    """

    width: int
    height: int
    objects: list[VocObject]
    file_name: str = ""


def read_voc(xml_file: str | Path) -> VocImage:
    """Read a Pascal VOC xml file.

    Raises:
        OSError: the file is missing.
        ValueError: it is not xml or of another kind, a name or a corner is missing, or a value
            can't be used.
    """
    if Path(xml_file).exists() and not Path(xml_file).is_file():
        raise ValueError(f"{xml_file} is no file.")
    try:
        root = ElementTree.parse(xml_file).getroot()
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag:.80}>, not <annotation>")
        width, height = (_side(root, side) for side in ("width", "height"))
        named = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
        return VocImage(width, height, [_object(entry) for entry in root.iter("object")], named)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{xml_file} is not an annotation of Pascal VOC: {error}.") from None


def _object(entry: ElementTree.Element) -> VocObject:
    name, box = _text(entry, "name"), entry.find("bndbox")
    if box is None:
        raise ValueError(f"an object of the class {name!r} has no bndbox")
    x0, y0, x1, y1 = (_number(box, corner) for corner in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (entry.findtext("difficult") or "").strip()
    if difficult.lower() not in _DIFFICULT:
        raise ValueError(f"its difficult is {difficult!r:.80}, neither 0 nor 1")
    return VocObject(name, (x0, y0, x1, y1), _DIFFICULT[difficult.lower()])


def _side(root: ElementTree.Element, side: str) -> int:
    if root.find(f"size/{side}") is None:
        return 0
    value = _number(root, f"size/{side}")
    if value < 0 or not value.is_integer():
        raise ValueError(f"its {side} is {value:g} pixels")
    return int(value)


def _number(entry: ElementTree.Element, path: str) -> float:
    text = _text(entry, path)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the {path} of <{entry.tag}> is {text!r:.80}, no finite number")
    return value


def _text(entry: ElementTree.Element, path: str) -> str:
    text = entry.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"<{entry.tag}> has no {path}")
    return text.strip()
