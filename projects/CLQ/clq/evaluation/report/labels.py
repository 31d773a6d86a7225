"""Statistics of the labels of a data set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .measure import class_names


@dataclass(frozen=True)
class LabelStatistics:
    """Labels of one data set; crowds do not count.

    Attributes:
        name: of the data set.
        num_images: all.
        counts: objects by class name.
        sides: square root of the area of each object, in pixels of its file.
    """

    name: str
    num_images: int
    counts: dict[str, int]
    sides: np.ndarray

    @property
    def num_objects(self) -> int:
        return len(self.sides)


def count_labels(name: str, truth: Mapping[str, Any]) -> LabelStatistics:
    """Count the labels of a COCO dict; one without annotations has none."""
    ids = sorted(category["id"] for category in truth["categories"])
    names = dict(zip(ids, class_names(truth), strict=True))
    objects: Sequence[Mapping[str, Any]] = [
        a for a in truth.get("annotations", ()) if not a.get("iscrowd")
    ]
    found = Counter(names[a["category_id"]] for a in objects)
    areas = [max(a["bbox"][2], 0) * max(a["bbox"][3], 0) for a in objects]
    return LabelStatistics(
        name,
        num_images=len(truth["images"]),
        counts={name: found[name] for name in names.values()},
        sides=np.sqrt(np.array(areas, dtype=float)),
    )
