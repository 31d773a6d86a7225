"""The content of a COCO json as NumPy columns.

Letters: K categories, N images, M annotations.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .findings import Example, Finding, quote_unprintable, short_repr


class CocoFiles(NamedTuple):
    """Annotations of a data set, and the folder that its file names start from.

    The annotations are a COCO json; or a YOLO data.yaml, a YOLO or a Pascal VOC folder, with ``:``
    and the name of a split where it has several, as
    :func:`clq.data.formats.source.resolve_data` returns them.
    """

    json_file: Path
    image_root: Path


class CocoTable(NamedTuple):
    """Usable entries of a COCO json, and the errors of the others.

    Attributes:
        category_ids: K of them, ascending.
        class_names: K of them, by class index, which is the order of the category ids.
        image_ids: int64 (N,).
        file_names: N of them, as they stand in the json.
        sizes: width and height of the images in pixels, int64 (N, 2).
        annotation_ids: int64 (M,).
        image_idxs: index of each annotation's image, int64 (M,).
        classes: class index of each annotation, int64 (M,).
        boxes: ``[x, y, width, height]`` in pixels, float64 (M, 4).
        is_crowd: bool (M,).
        angles: rotation that an annotation states in degrees, which training ignores, (M,).
        errors: of the entries that were left out.
        is_labelled: False where the json has no list of annotations.
        left_out: name of a root category, see :mod:`.validate`; empty if there is none.
        warnings: of the files that were read, if the format is not COCO's.
    """

    category_ids: list[int]
    class_names: list[str]
    image_ids: np.ndarray
    file_names: list[str]
    sizes: np.ndarray
    annotation_ids: np.ndarray
    image_idxs: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    is_crowd: np.ndarray
    angles: np.ndarray
    errors: list[Finding]
    is_labelled: bool = True
    left_out: str = ""
    warnings: Sequence[Finding] = ()

    @property
    def objects(self) -> np.ndarray:
        """Indices of the annotations that are not crowds."""
        return np.flatnonzero(~self.is_crowd)

    def image_paths(self, image_root: str | Path) -> list[str]:
        """Return the N paths of the images below a folder."""
        return [os.path.join(image_root, name) for name in self.file_names]

    def corners(self) -> np.ndarray:
        """The boxes as xyxy in pixels, clipped to their images, (M, 4)."""
        corners = np.concatenate((self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]), axis=1)
        return np.clip(corners, 0, np.tile(self.sizes[self.image_idxs], 2))

    def is_trained_on(self) -> np.ndarray:
        """Mask of the annotations that training uses, bool (M,).

        They are not crowds and have a positive area at least partly inside their image.
        """
        corners = self.corners()
        inside = (corners[:, 2:] > corners[:, :2]).all(axis=1)  # False where a side is not positive
        return inside & ~self.is_crowd

    def image_example(self, index: int, predicate: str) -> Example:
        """Describe an image."""
        return Example(f"image {quote_unprintable(self.file_names[index])}", predicate)

    def box_example(self, index: int) -> Example:
        """Describe an annotation by its image and box."""
        name = quote_unprintable(self.file_names[self.image_idxs[index]])
        box = [int(value) if value.is_integer() else value for value in self.boxes[index].tolist()]
        return Example(
            f"annotation {self.annotation_ids[index]} of {name}", f"has the bbox {short_repr(box)}"
        )


def evenly_spaced(count: int, limit: int | None) -> np.ndarray:
    """Choose at most ``limit`` of the indices 0 .. count - 1, evenly spaced; None chooses all."""
    if limit is None or count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)
