"""Dataset mapper: from an image record to the detector's input."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from torchvision import tv_tensors

from ..modeling.crowd import CROWD_CLASS
from ..runtime.images import read_image
from .augmentation_chain import AugmentationChain
from .augmentations import LabelledImage, as_boxes
from .transforms import with_fast_resizing


class CLQMapper(DatasetMapper):
    """Detectron2's mapper with images of any depth, exact boxes and, optionally, crowds.

    Detectron2 leaves crowds out. Here they become boxes of the class ``CROWD_CLASS``, which
    augmentations transform like all others.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        bit_depth: int = 8,
        keep_crowds: bool = False,
        chain: AugmentationChain | None = None,
        **options: Any,
    ) -> None:
        """
        Args:
            is_train: map for training.
            augmentations: in order; Detectron2's ``ResizeShortestEdge`` is replaced by a faster
                one.
            bit_depth: of :func:`clq.runtime.images.read_image`.
            keep_crowds: keep boxes that are marked ``iscrowd`` in the ground truth.
            chain: further augmentations, which run before those.
            options: of Detectron2's mapper.
        """
        super().__init__(is_train, augmentations=with_fast_resizing(augmentations), **options)
        self.bit_depth = bit_depth
        self.keep_crowds = keep_crowds
        self._chain = chain

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        options = super().from_config(cfg, is_train)
        options["bit_depth"] = cfg.INPUT.BIT_DEPTH
        return {**options, "keep_crowds": is_train and cfg.MODEL.CLQ.IGNORE_CROWD}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Read and augment an image, with the boxes if it is for training.

        Raises:
            READ_ERRORS: the image can't be read, or has another size than the record says.
            AugmentationError, UnreadablePartner: see :class:`AugmentationChain`.
        """
        sample = dict(dataset_dict)
        annotations = sample.pop("annotations", None)
        if self._chain is None:
            image = self._read(sample, self.image_format)
        else:
            labelled = self._chain(dataset_dict, self._read_labelled)
            image, annotations = self._as_annotated(labelled)
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        pixels = augmented.image
        sample["image"] = torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        if self.is_train and annotations is not None:
            sample["annotations"] = [self._prepare(annotation) for annotation in annotations]
            self._transform_annotations(sample, transforms, pixels.shape[:2])
        return sample

    def _read(self, record: dict[str, Any], channels: str) -> np.ndarray:
        """Read the image of a record as (H, W, 3) uint8."""
        image = read_image(record["file_name"], channels, bit_depth=self.bit_depth)
        detection_utils.check_image_size(record, image)
        return image

    def _read_labelled(self, record: dict[str, Any]) -> LabelledImage:
        """Read the image of a record with its boxes, those of crowds only if they are kept."""
        pixels = np.array(self._read(record, "RGB"), order="C")  # (H, W, 3)
        prepared = [self._prepare(annotation) for annotation in record.get("annotations", ())]
        objects = [annotation for annotation in prepared if not annotation.get("iscrowd", 0)]
        boxes = [
            BoxMode.convert(one["bbox"], BoxMode(one["bbox_mode"]), BoxMode.XYXY_ABS)
            for one in objects
        ]
        return LabelledImage(
            tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)),
            as_boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4), pixels.shape[:2]),
            torch.tensor([one["category_id"] for one in objects], dtype=torch.int64),
        )

    def _as_annotated(self, labelled: LabelledImage) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Convert to an image in the mapper's format, (H, W, 3), and Detectron2's annotations."""
        pixels = labelled.image.permute(1, 2, 0).numpy()
        annotations = [
            {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": k}
            for box, k in zip(labelled.boxes.tolist(), labelled.classes.tolist(), strict=True)
        ]
        return pixels[:, :, ::-1] if self.image_format == "BGR" else pixels, annotations

    def _prepare(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """Convert the box to floats, and a crowd to keep to an object of ``CROWD_CLASS``."""
        # Detectron2 would truncate integer boxes when it resizes them.
        annotation = {**annotation, "bbox": [float(side) for side in annotation["bbox"]]}
        if self.keep_crowds and annotation.get("iscrowd", 0):
            annotation |= {"iscrowd": 0, "category_id": CROWD_CLASS}
        return annotation
