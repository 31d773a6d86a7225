"""Crowd regions: boxes around objects that nobody separated, to ignore as background.

Letters: R anchors over all levels of an image, M ground-truth boxes, crowds among them.
"""

import torch
from detectron2.structures import Boxes, pairwise_ioa
from torch import Tensor

from .anchors import anchor_strides

# The class of a crowd among the ground truth of an image.
CROWD_CLASS = -1
# Share of a cell that must lie in one crowd.
_MIN_SHARE = 0.5


def separate_crowds(gt_boxes: Boxes, gt_classes: Tensor) -> tuple[Boxes, Boxes]:
    """Separate objects from crowds without a host synchronization.

    Args:
        gt_boxes: M boxes in pixels.
        gt_classes: (M,), ``CROWD_CLASS`` for a crowd.

    Returns:
        Twice M boxes in the order of ``gt_boxes``: objects with zeros for crowds, which no anchor
        can match, and crowds with zeros for objects, which hold no cell.
    """
    is_crowd = (gt_classes == CROWD_CLASS).unsqueeze(1)  # (M, 1)
    boxes = gt_boxes.tensor
    return Boxes(boxes.masked_fill(is_crowd, 0)), Boxes(boxes.masked_fill(~is_crowd, 0))


def is_in_crowd(anchors: Boxes, crowds: Boxes, image_size: tuple[int, int]) -> Tensor:
    """Mask of anchors more than half of whose cell lies in a crowd.

    The cell is the square of one stride around the anchor's centre. Only its part inside the image
    counts: the cells of the first row and column reach beyond the border. A cell without such a
    part is in no crowd.

    Args:
        anchors: R boxes in pixels.
        crowds: M boxes in pixels; zeros hold no cell.
        image_size: height and width in pixels.

    Returns:
        bool (R,).
    """
    height, width = image_size
    centers = anchors.get_centers()  # (R, 2)
    half = anchor_strides(anchors.tensor) / 2  # (R, 1)
    cells = torch.cat((centers - half, centers + half), dim=1)  # (R, 4)
    cells[:, 0::2].clamp_(0, width)
    cells[:, 1::2].clamp_(0, height)
    return (pairwise_ioa(crowds, Boxes(cells)) > _MIN_SHARE).any(dim=0)  # of (M, R)
