"""The content of a COCO json as columns, small enough to keep and quick to compute with.

Letters: K categories, N images, M annotations.
"""

from typing import NamedTuple

import numpy as np

from .findings import Example, Finding, plain, shown


class CocoTable(NamedTuple):
    """The entries of a COCO json that can be used, and the faults of the others.

    Attributes:
        category_ids: K of them, rising.
        class_names: K of them, in that order, which is that of the class indices.
        image_ids: int64 (N,).
        file_names: N of them, as they stand in the json.
        sizes: width and height of the images in pixels, int64 (N, 2).
        annotation_ids: int64 (M,).
        image_idxs: index of each annotation's image, int64 (M,).
        classes: class index of each annotation, int64 (M,).
        boxes: ``[x, y, width, height]`` in pixels, float64 (M, 4).
        is_crowd: marked ``iscrowd``, bool (M,).
        lacks_polygon: has a segmentation none of whose polygons has three points, bool (M,).
        faults: of the entries that are not here.
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
    lacks_polygon: np.ndarray
    faults: list[Finding]

    @property
    def objects(self) -> np.ndarray:
        """Indices of the annotations that are no crowd, (M - crowds,)."""
        return np.flatnonzero(~self.is_crowd)

    def corners(self) -> np.ndarray:
        """The boxes as xyxy in pixels, clipped to their images, (M, 4)."""
        corners = np.concatenate((self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]), axis=1)
        return np.clip(corners, 0, np.tile(self.sizes[self.image_idxs], 2))

    def trains(self) -> np.ndarray:
        """Tell whether an annotation is an object to learn, bool (M,).

        No crowd, of positive width and height, at least partly inside its image, and kept by
        Detectron2's loader.
        """
        corners = self.corners()
        inside = (corners[:, 2:] > corners[:, :2]).all(axis=1)  # False where a side is not positive
        return inside & ~self.is_crowd & ~self.lacks_polygon

    def image_example(self, index: int, predicate: str) -> Example:
        """Note on an image."""
        return Example(f"image {plain(self.file_names[index])}", predicate)

    def box_example(self, index: int) -> Example:
        """An annotation with its image and its box."""
        name = plain(self.file_names[self.image_idxs[index]])
        box = [int(value) if value.is_integer() else value for value in self.boxes[index].tolist()]
        return Example(
            f"annotation {self.annotation_ids[index]} of {name}", f"has the bbox {shown(box)}"
        )


def evenly_spaced(count: int, most: int | None) -> np.ndarray:
    """Indices 0 .. count - 1, or so many of them from the first to the last.

    Args:
        count: how many there are.
        most: how many to take; None takes all.
    """
    if most is None or count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)
