"""From an image record of a data set to the input of the detector."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper

from ..modeling.crowd import CROWD_CLASS

__all__ = ["CLQMapper"]


class CLQMapper(DatasetMapper):
    """Detectron2's mapper, which can keep crowds among the ground truth.

    Detectron2 leaves them out. Here they are boxes like the others, so that augmentations move
    them, of the class ``CROWD_CLASS``.
    """

    @configurable
    def __init__(self, is_train: bool, *, keep_crowds: bool = False, **options: Any) -> None:
        """
        Args:
            is_train: whether the input is for training.
            keep_crowds: put the boxes that are marked ``iscrowd`` into the ground truth.
            options: of Detectron2's mapper.
        """
        super().__init__(is_train, **options)
        self.keep_crowds = keep_crowds

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        options = super().from_config(cfg, is_train)
        return {**options, "keep_crowds": is_train and cfg.MODEL.CLQ.IGNORE_CROWD}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        if self.keep_crowds and "annotations" in dataset_dict:
            annotations = [_with_crowd_class(anno) for anno in dataset_dict["annotations"]]
            dataset_dict = {**dataset_dict, "annotations": annotations}
        return super().__call__(dataset_dict)


def _with_crowd_class(annotation: dict[str, Any]) -> dict[str, Any]:
    """A crowd as an object of the crowd's class; any other annotation as it is."""
    if not annotation.get("iscrowd", 0):
        return annotation
    return {**annotation, "iscrowd": 0, "category_id": CROWD_CLASS}
