"""Clip and rescale detections with a single host synchronization.

Detectron2 synchronizes to check that boxes are finite before it clips them, and to drop those that
are empty after rescaling. Where every box is sound, neither changes anything; whether all are is
one more bit in the number of candidates, for which the host waits anyway.

Letters: Q candidates.
"""

from typing import NamedTuple

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .candidates import Candidates

# A box with sides above this share of the image's longer side is not empty at any other size:
# scaling and clipping shrink them by roundings of fp32, which are far smaller.
_MIN_SIDE = 1e-5


class Detections(NamedTuple):
    """Boxes of an image."""

    instances: Instances
    are_sound: bool  # known to be finite, and not empty at any size of the image


def chosen_instances(found: Candidates, boxes: Tensor, image_size: tuple[int, int]) -> Detections:
    """Clip the chosen candidates to the image. The host synchronizes here for their number.

    Args:
        found: Q candidates.
        boxes: of the candidates, xyxy in pixels, (Q, 4).
        image_size: height and width in pixels.

    Returns:
        ``pred_boxes``, ``scores`` and ``pred_classes``, level by level and best first.
    """
    clipped = _clipped(boxes, image_size)
    min_side = _MIN_SIDE * max(image_size)
    is_sound = boxes.isfinite().all(dim=1) & (clipped[:, 2:] - clipped[:, :2] > min_side).all(
        dim=1
    )  # (Q,)
    is_unsound = found.is_chosen & ~is_sound
    count, unsound = divmod(int(2 * found.is_chosen.sum() + is_unsound.any()), 2)
    candidates = Instances(
        image_size,
        pred_boxes=Boxes((boxes if unsound else clipped)[:count]),
        scores=found.scores[:count],
        pred_classes=found.classes[:count],
    )
    if unsound:
        candidates.pred_boxes.clip(image_size)  # raises where a box is not finite
    return Detections(candidates, not unsound)


def postprocess(detections: Detections, height: int, width: int) -> Instances:
    """Rescale boxes in place, as Detectron2's ``detector_postprocess``.

    Args:
        detections: of an image.
        height: of the output, in pixels.
        width: likewise.
    """
    instances, are_sound = detections
    if not are_sound or min(height, width) <= 0:
        return detector_postprocess(instances, height, width)
    result = Instances((height, width), **instances.get_fields())
    result.pred_boxes.scale(width / instances.image_size[1], height / instances.image_size[0])
    result.pred_boxes.tensor = _clipped(result.pred_boxes.tensor, (height, width))
    return result


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes xyxy, (Q, 4), to x in [0, width] and y in [0, height]."""
    height, width = size
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)  # (Q, 2)
    return torch.stack((x, y), dim=2).flatten(1)
