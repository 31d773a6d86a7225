"""Box codings: boxes as four numbers, or four distributions, per anchor.

Letters: P boxes, B = reg_max + 1 bins, D channels of a coded box. Distances are (left, top, right,
bottom), "ltrb", from the centre of an anchor to the sides of the box, in strides.
"""

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor

from .anchors import ANCHOR_SCALE, anchor_strides
from .losses import distribution_focal_loss


def expected_distances(dist_logits: Tensor, dim: int = -1) -> Tensor:
    """Expectation of a softmax distribution over the bins 0 .. B - 1.

    Args:
        dist_logits: logits, (..., B, ...).
        dim: which dimension the bins are.

    Returns:
        Distances in strides, in [0, B - 1], of that shape without the bins; fp32 or better.

    Source: Generalized Focal Loss (arXiv 2006.04388), equation 4.
    """
    dtype = torch.promote_types(dist_logits.dtype, torch.float32)
    prob = dist_logits.softmax(dim, dtype=dtype)
    bins = torch.arange(prob.shape[dim], dtype=dtype, device=prob.device)
    with torch.autocast(prob.device.type, enabled=False):  # would take the product in half
        return torch.tensordot(prob, bins, dims=([dim], [0]))


class DistributionBoxTransform:
    """Box coding of CLQ with the interface of Detectron2's ``Box2BoxTransform``.

    A box is coded by four distributions, one for each side, over the distance from the anchor's
    centre to that side. The stride follows from the side of the anchor.
    """

    def __init__(self, reg_max: int = 16) -> None:
        """
        Args:
            reg_max: largest distance that a distribution can express, in strides.
        """
        self.reg_max = reg_max
        self.num_channels = 4 * (reg_max + 1)

    def distances(self, pred_dists: Tensor) -> Tensor:
        """Decode a dense map.

        Args:
            pred_dists: logits, side-major, (N, 4B, H, W).

        Returns:
            ltrb in strides, (N, 4, H, W), fp32 or better, attached to the graph.
        """
        logits = pred_dists.unflatten(1, (4, self.reg_max + 1))  # (N, 4, B, H, W)
        return expected_distances(logits, dim=2)

    def apply_deltas(self, dist_logits: Tensor, anchors: Tensor) -> Tensor:
        """Decode boxes.

        Args:
            dist_logits: logits, side-major, (P, 4B).
            anchors: xyxy in pixels, (P, 4).

        Returns:
            Boxes xyxy in pixels, (P, 4), fp32 or better, not clipped.
        """
        distances = expected_distances(dist_logits.unflatten(-1, (4, self.reg_max + 1)))
        ltrb, centers = distances * anchor_strides(anchors), self._centers(anchors)
        return torch.cat((centers - ltrb[:, :2], centers + ltrb[:, 2:]), dim=1)

    def get_deltas(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Regression targets.

        Args:
            anchors: xyxy in pixels, (P, 4).
            boxes: xyxy in pixels, (P, 4).

        Returns:
            ltrb in strides, (P, 4), clamped to [0, reg_max - 0.1], so that a bin lies on
            either side of each.
        """
        centers = self._centers(anchors)
        ltrb = torch.cat((centers - boxes[:, :2], boxes[:, 2:] - centers), dim=1)
        return (ltrb / anchor_strides(anchors)).clamp(min=0, max=self.reg_max - 0.1)

    def losses(self, dist_logits: Tensor, anchors: Tensor, gt_boxes: Tensor) -> dict[str, Tensor]:
        """Losses beside that of the decoded box, unreduced: ``loss_dfl``, mean of the sides, (P,).

        Args:
            dist_logits: logits, side-major, (P, 4B).
            anchors: xyxy in pixels, (P, 4).
            gt_boxes: xyxy in pixels, (P, 4).
        """
        target = self.get_deltas(anchors, gt_boxes)
        dfl = distribution_focal_loss(dist_logits.unflatten(1, (4, -1)), target)  # (P, 4)
        return {"loss_dfl": dfl.mean(dim=1)}

    @staticmethod
    def _centers(anchors: Tensor) -> Tensor:
        """Centres of anchors, xy in pixels, (P, 2)."""
        return (anchors[:, :2] + anchors[:, 2:]) / 2


class DeltaBoxTransform:
    """Box coding of ATSS: a shift of the anchor's centre and log ratios of its sides.

    Methods are those of :class:`DistributionBoxTransform`, of codes (dx, dy, dw, dh), in fp32.
    """

    num_channels = 4
    _coder = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))  # factors of dx, dy, dw, dh in the code

    def distances(self, pred_deltas: Tensor) -> Tensor:
        rows = pred_deltas.permute(0, 2, 3, 1)  # (N, H, W, 4)
        half = rows.new_full(rows.shape, ANCHOR_SCALE / 2, dtype=torch.float32).view(-1, 4)
        anchors = torch.cat((-half[:, :2], half[:, 2:]), dim=1)  # in strides, around their centre
        boxes = self._coder.apply_deltas(rows.reshape(-1, 4), anchors)
        ltrb = torch.cat((-boxes[:, :2], boxes[:, 2:]), dim=1)
        return ltrb.view(rows.shape).permute(0, 3, 1, 2)

    def apply_deltas(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        return self._coder.apply_deltas(deltas, anchors)

    def losses(self, deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> dict[str, Tensor]:
        """None: the loss of the decoded box is all."""
        return {}


BoxCoding = DistributionBoxTransform | DeltaBoxTransform
