"""The one way to the annotations of a data set, of whatever format."""

import json
import os
import zlib
from pathlib import Path

from detectron2.utils.file_io import PathManager

from .content import Annotations
from .source import find_layout, is_json, parse_source


def read_annotations(source: str | Path, image_root: str | Path = "") -> Annotations:
    """Read the annotations of one split as the content of a COCO json.

    Args:
        source: of :func:`~clq.data.formats.source.resolve_data`.
        image_root: likewise; a json does not need it.

    Raises:
        OSError: a file can't be read.
        ValueError: a json is none, or a YOLO or Pascal VOC data set lacks a part.
    """
    return find_layout(source, image_root).read()


def last_change(source: str | Path, image_root: str | Path = "") -> float:
    """Return when the annotations were changed last, in seconds; 0 if they do not exist."""
    return find_layout(source, image_root).last_change() if exists(source) else 0.0


def exists(source: str | Path) -> bool:
    """Tell whether annotations are there, without a look inside."""
    return os.path.exists(parse_source(source)[0]) or PathManager.isfile(str(source))


def checksum(source: str | Path, image_root: str | Path = "") -> int:
    """Return the CRC-32 of the annotations: of a json's bytes, else of the content as json."""
    if is_json(source):
        return zlib.crc32(Path(PathManager.get_local_path(str(source))).read_bytes())
    content = read_annotations(source, image_root).content
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
