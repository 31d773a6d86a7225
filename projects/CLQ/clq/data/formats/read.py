"""The one way to the annotations of a data set, of whatever format."""

import json
import os
import zlib
from collections.abc import Hashable
from pathlib import Path

from detectron2.utils.file_io import PathManager

from ..coco.dialect import read_coco_json
from .content import Annotations
from .source import find_layout, parse_source


def read_annotations(source: str | Path, image_root: str | Path = "") -> Annotations:
    """Read the annotations of one split as the content of a COCO json.

    Args:
        source: of :func:`~clq.data.formats.source.resolve_data`.
        image_root: likewise; a json does not need it.

    Raises:
        OSError: a file can't be read.
        ValueError: a json is none, or a YOLO or Pascal VOC data set lacks a part.
    """
    layout = find_layout(source, image_root)
    return Annotations(read_coco_json(source)) if layout is None else layout.read()


def fingerprint(source: str | Path, image_root: str | Path = "") -> Hashable:
    """Return what changes when a file of the annotations does.

    Raises:
        OSError: a json does not exist.
        ValueError: as of :func:`read_annotations`; or a null byte in the name.
    """
    layout = find_layout(source, image_root)
    if layout is not None:
        return layout.fingerprint()
    stat = Path(source).stat()
    return stat.st_mtime_ns, stat.st_size


def last_change(source: str | Path, image_root: str | Path = "") -> float:
    """Return when the annotations were changed last, in seconds; 0 if they do not exist."""
    if not exists(source):
        return 0.0
    layout = find_layout(source, image_root)
    return Path(source).stat().st_mtime if layout is None else layout.last_change()


def exists(source: str | Path) -> bool:
    """Tell whether annotations are there, without a look inside."""
    return os.path.exists(parse_source(source)[0]) or PathManager.isfile(str(source))


def checksum(source: str | Path, image_root: str | Path = "") -> int:
    """Return the CRC-32 of the annotations: of a json's bytes, else of the content as json."""
    if find_layout(source, image_root) is None:
        return zlib.crc32(Path(PathManager.get_local_path(str(source))).read_bytes())
    content = read_annotations(source, image_root).content
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
