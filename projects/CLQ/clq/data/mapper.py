"""Dataset mapper: from an image record to the detector's input."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T

from ..modeling.crowd import CROWD_CLASS
from .transforms import with_fast_resizing


class CLQMapper(DatasetMapper):
    """Detectron2's mapper with faster resizing, exact boxes and, optionally, crowds.

    Detectron2 leaves crowds out. Here they become boxes of the class ``CROWD_CLASS``, which
    augmentations transform like all others.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        keep_crowds: bool = False,
        **options: Any,
    ) -> None:
        """
        Args:
            is_train: map for training.
            augmentations: in order; Detectron2's ``ResizeShortestEdge`` is replaced by a faster
                one.
            keep_crowds: keep boxes that are marked ``iscrowd`` in the ground truth.
            options: of Detectron2's mapper.
        """
        super().__init__(is_train, augmentations=with_fast_resizing(augmentations), **options)
        self.keep_crowds = keep_crowds

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        options = super().from_config(cfg, is_train)
        return {**options, "keep_crowds": is_train and cfg.MODEL.CLQ.IGNORE_CROWD}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        if self.is_train and "annotations" in dataset_dict:
            annotations = [self._prepare(anno) for anno in dataset_dict["annotations"]]
            dataset_dict = {**dataset_dict, "annotations": annotations}
        return super().__call__(dataset_dict)

    def _prepare(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """Convert the box to floats, and a crowd to keep to an object of ``CROWD_CLASS``."""
        # Detectron2 would truncate integer boxes when it resizes them.
        annotation = {**annotation, "bbox": [float(side) for side in annotation["bbox"]]}
        if self.keep_crowds and annotation.get("iscrowd", 0):
            annotation |= {"iscrowd": 0, "category_id": CROWD_CLASS}
        return annotation
