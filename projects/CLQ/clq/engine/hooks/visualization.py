"""Hook that logs predictions on a fixed set of images."""

from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.engine import HookBase
from detectron2.evaluation import inference_context
from detectron2.structures import Instances
from torch import nn

from ...data.mapped_dataset import Record
from ...data.records import load_records
from ...prediction.drawing import draw_detections, draw_ground_truth
from ...prediction.predictor import Predictor
from ...runtime.images import READ_ERRORS

_NUM_IMAGES = 4
_MIN_SCORE = 0.3


class VisualizationHook(HookBase):
    """Puts images into the event storage for the writers, which must be registered after it.

    Each shows the ground truth on the left and the detections on the right. Unreadable images
    are left out.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, class_names: list[str]) -> None:
        """
        Args:
            cfg: reads ``VIS_PERIOD``; the images are the first ones of the first test set.
            model: trained model or its average.
            class_names: by class index.
        """
        self._period = cfg.VIS_PERIOD
        self._predictor = Predictor(model, cfg, class_names)
        records = load_records(cfg.DATASETS.TEST[0])
        self._records = records[:_NUM_IMAGES]

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self._period:
            return
        names = self._predictor.class_names
        with inference_context(self._predictor.model):
            for record in self._records:
                try:
                    image = self._predictor.read(record["file_name"])
                except READ_ERRORS:
                    continue
                truth = draw_ground_truth(image, _objects_of(record, image.shape[:2]), names)
                found = draw_detections(image, self._predictor.find([image])[0], names, _MIN_SCORE)
                figure = np.concatenate((truth, found), axis=1)  # (H, W, 3) uint8 RGB
                name = Path(record["file_name"]).name
                self.trainer.storage.put_image(f"predictions/{name}", figure.transpose(2, 0, 1))


def _objects_of(record: Record, size: tuple[int, int]) -> Instances:
    """Return the boxes and classes of a record, without crowds."""
    keys = ("bbox", "bbox_mode", "category_id")
    objects = [a for a in record.get("annotations", []) if not a.get("iscrowd", 0)]
    return annotations_to_instances([{key: a[key] for key in keys} for a in objects], size)
