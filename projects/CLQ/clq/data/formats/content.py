"""A COCO dict from images and their objects."""

import os
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from ..coco.findings import Example, Finding, make_findings, quote_unprintable

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels

_DECIMALS = 11  # of a pixel: beyond the rounding of float64 arithmetic, within that of float32


class LabeledObject(NamedTuple):
    """An object of an image.

    Attributes:
        class_index: among the class names.
        box: corners in pixels.
        is_ignored: COCO's ``iscrowd``, which an evaluation counts as neither found nor missed.
    """

    class_index: int
    box: Box
    is_ignored: bool = False


class LabeledImage(NamedTuple):
    """An image and its objects; width and height are those of the upright image in pixels."""

    path: str
    width: int
    height: int
    objects: Sequence[LabeledObject]


class Annotations(NamedTuple):
    """Content of a data set in COCO's format, and what was found while reading it."""

    content: Any
    findings: Sequence[Finding] = ()


class Problems:
    """Errors and warnings by kind, collected while files are read."""

    def __init__(self) -> None:
        self._examples: dict[tuple[str, str, str], list[Example]] = {}

    def add(
        self,
        kind: str,
        what: str,
        path: str,
        predicate: str,
        *,
        role: str = "",
        consequence: str = "",
    ) -> None:
        """Add one entry, see :class:`~clq.data.coco.findings.Finding` and ``Example``.

        Args:
            path: subject of the predicate.
            role: words before it, such as "image".
            consequence: makes the entry a warning.
        """
        subject = f"{role} " * bool(role) + quote_unprintable(path)
        example = Example(subject, predicate)
        self._examples.setdefault((kind, what, consequence), []).append(example)

    def findings(self) -> list[Finding]:
        """Return one finding for each kind."""
        found: list[Finding] = []
        for (kind, what, consequence), examples in self._examples.items():
            found += make_findings(
                kind,
                what,
                range(len(examples)),
                examples.__getitem__,
                is_error=not consequence,
                consequence=consequence,
            )
        return found


def make_content(
    images: Sequence[LabeledImage], class_names: Sequence[str], image_root: str
) -> dict[str, Any]:
    """Make a COCO dict whose images are sorted by name and all ids count from 1.

    Args:
        images: with absolute paths.
        class_names: by class index.
        image_root: absolute folder that the file names start from; an image elsewhere keeps its
            absolute path.
    """
    named = sorted(((_name(image.path, image_root), image) for image in images), key=itemgetter(0))
    annotations: list[dict[str, Any]] = []
    for image_id, (_, image) in enumerate(named, start=1):
        for index, box, is_ignored in image.objects:
            annotation = coco_annotation(
                len(annotations) + 1, image_id, index + 1, box, is_crowd=is_ignored
            )
            annotation["bbox"] = [_plain(side) for side in annotation["bbox"]]
            annotations.append({**annotation, "area": _plain(annotation["area"])})
    return {
        "images": [
            {"id": id_, "file_name": name, "width": image.width, "height": image.height}
            for id_, (name, image) in enumerate(named, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for id_, name in enumerate(class_names, start=1)],
    }


def coco_annotation(
    id_: int, image_id: int, category_id: int, box: Box, *, is_crowd: bool = False
) -> dict[str, Any]:
    """Make an annotation of a COCO json."""
    width, height = box[2] - box[0], box[3] - box[1]
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [box[0], box[1], width, height],
        "area": max(width, 0) * max(height, 0),
        "iscrowd": int(is_crowd),
    }


def _name(path: str, image_root: str) -> str:
    return path.removeprefix(os.path.join(image_root, "")).replace(os.sep, "/")


def _plain(value: float) -> float:
    """Return a number without the noise of float64 arithmetic, an integer if it is whole."""
    if not float(value).is_integer():
        value = round(value, _DECIMALS)
    return int(value) if float(value).is_integer() else value
