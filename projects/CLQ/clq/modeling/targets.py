"""Training targets of the anchors of a batch.

They are made before the network runs, so that the host synchronizes, for copies and for the
positive anchors, while the device has nothing to do yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .criterion import Samples


class Targets(NamedTuple):
    """Targets of N images with R anchors each, over L levels."""

    anchors: list[Boxes]  # of each level
    gt_labels: list[Tensor]  # of each image, (R,), as CLQ.label_anchors gives them
    gt_boxes: list[Tensor]  # likewise, (R, 4)
    samples: Samples  # which anchors are positive

    @property
    def num_samples(self) -> Tensor:
        """Divisor of the batch's class loss, a scalar."""
        return self.samples.number


class GroundTruth(NamedTuple):
    """Concatenated boxes of N images, M in all."""

    boxes: Tensor  # xyxy in pixels, (M, 4)
    classes: Tensor  # (M,)
    counts: list[int]  # of each image

    @classmethod
    def of(cls, gt_instances: Sequence[Instances], device: torch.device) -> GroundTruth:
        """Concatenate and move to a device, by two copies for the batch."""
        return cls(
            torch.cat([gt.gt_boxes.tensor for gt in gt_instances]).to(device),
            torch.cat([gt.gt_classes for gt in gt_instances]).to(device),
            [len(gt) for gt in gt_instances],
        )

    def at(self, matched_idxs: Tensor, *, background: int) -> tuple[Tensor, Tensor]:
        """Classes and boxes of anchors, (N, R) and (N, R, 4), from the indices of their boxes.

        Index M gives the class ``background`` and a box of zeros.
        """
        # One more row for the background: a batch without objects needs no branch.
        classes = F.pad(self.classes, (0, 1), value=background)
        boxes = F.pad(self.boxes, (0, 0, 0, 1))
        return classes[matched_idxs], boxes[matched_idxs]
