"""The losses of CLQ, unreduced.

Letters: N images, R anchors of an image, P matched (positive) anchors, B = reg_max + 1 bins.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def quality_focal_loss(log_p: Tensor, log_1mp: Tensor, target: Tensor, beta: float = 2.0) -> Tensor:
    """Binary cross-entropy towards a soft target, focused by the distance to it.

    QFL = |t - p|^beta * BCE(p, t); the focusing factor carries gradient.

    Args:
        log_p: log of the predicted probability p, any shape.
        log_1mp: log(1 - p), same shape.
        target: soft target t in [0, 1], broadcastable to that shape.
        beta: focusing exponent.

    Returns:
        Loss of each element, unreduced.

    Source: Generalized Focal Loss (arXiv 2006.04388), equation 5, on the joint score.
    """
    cross_entropy = -(target * log_p + (1 - target) * log_1mp)
    return cross_entropy * (target - log_p.exp()).abs().pow(beta)


@dataclass(frozen=True)
class QualityFocalLoss:
    """Quality focal loss; the target is the IoU of the decoded box (arXiv 2006.04388)."""

    beta: float = 2.0  # focusing exponent
    hard_target: bool = False  # towards 1 instead of the IoU

    def target(self, iou: Tensor) -> Tensor:
        """Target of each positive at its class, from the IoU of its decoded box; (P,)."""
        return torch.ones_like(iou) if self.hard_target else iou

    def __call__(self, log_p: Tensor, log_1mp: Tensor, target: Tensor) -> Tensor:
        """Loss of each element, unreduced; arguments as in :func:`quality_focal_loss`."""
        return quality_focal_loss(log_p, log_1mp, target, self.beta)

    def on_background(self, log_p: Tensor, log_1mp: Tensor) -> Tensor:
        """The same towards 0, in fewer steps, as nearly all elements are background."""
        return -log_1mp * log_p.exp().pow(self.beta)

    def num_samples(self, is_positive: Tensor) -> Tensor:
        """Positives (N, R) of the batch, an image without any counting as one; an fp32 scalar."""
        return is_positive.sum(dim=1, dtype=torch.float32).clamp(min=1).sum()


@dataclass(frozen=True)
class FocalLoss(QualityFocalLoss):
    """Focal loss, which balances objects and background (arXiv 1708.02002, equation 5).

    -alpha_t (1 - p_t)^beta log p_t: for a target of 0 or 1, alpha_t times the quality focal loss.
    """

    hard_target: bool = True
    alpha: float = 0.25  # weight of objects; background has 1 - alpha

    def __call__(self, log_p: Tensor, log_1mp: Tensor, target: Tensor) -> Tensor:
        balance = self.alpha * target + (1 - self.alpha) * (1 - target)
        return balance * super().__call__(log_p, log_1mp, target)

    def on_background(self, log_p: Tensor, log_1mp: Tensor) -> Tensor:
        return (1 - self.alpha) * super().on_background(log_p, log_1mp)

    def num_samples(self, is_positive: Tensor) -> Tensor:
        """Positives (N, R) of the batch, an fp32 scalar."""
        return is_positive.sum(dtype=torch.float32)


def distribution_focal_loss(dist_logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the two bins around a continuous target.

    DFL = -((i + 1 - t) log P_i + (t - i) log P_{i+1}), i = floor(t).

    Args:
        dist_logits: logits over the bins, (..., B).
        target: distances in strides, (...), in [0, B - 1).

    Returns:
        Loss of each distance, (...), unreduced.

    Source: Generalized Focal Loss (arXiv 2006.04388), equation 6.
    """
    log_prob = F.log_softmax(dist_logits.float(), dim=-1)  # (..., B)
    left = target.floor()
    right_weight = (target - left).unsqueeze(-1)  # (..., 1)
    left_bin = left.long().unsqueeze(-1)  # (..., 1)
    left_term = (1 - right_weight) * log_prob.gather(-1, left_bin)
    right_term = right_weight * log_prob.gather(-1, left_bin + 1)
    return -(left_term + right_term).squeeze(-1)


def quality_loss(pred_quality: Tensor, iou: Tensor) -> Tensor:
    """Binary cross-entropy between the quality logit and the IoU reached by the box.

    Args:
        pred_quality: quality logits, (P,).
        iou: IoU of the decoded box with its ground truth, (P,), in [0, 1].

    Returns:
        Loss of each positive, (P,), unreduced.
    """
    return F.binary_cross_entropy_with_logits(pred_quality.float(), iou, reduction="none")


def paired_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU of each box with its partner.

    The libraries' versions index by boolean masks, and each mask makes a GPU's host wait.

    Args:
        boxes1: xyxy in any unit, (P, 4).
        boxes2: likewise, (P, 4).
        eps: keeps the quotients of empty boxes finite, in that unit squared.

    Returns:
        IoU in [0, 1] and GIoU in (-1, 1], each (P,), attached to the graph.

    Source: Generalized Intersection over Union (arXiv 1902.09630), algorithm 1.
    """
    size1, size2 = boxes1[:, 2:] - boxes1[:, :2], boxes2[:, 2:] - boxes2[:, :2]
    low, high = torch.minimum(boxes1, boxes2), torch.maximum(boxes1, boxes2)
    intersection = _area((low[:, 2:] - high[:, :2]).clamp(min=0))
    hull = _area(high[:, 2:] - low[:, :2])
    union = _area(size1) + _area(size2) - intersection
    iou = intersection / (union + eps)
    return iou, iou - (hull - union) / (hull + eps)


def _area(size: Tensor) -> Tensor:
    """Width times height, (P,); the backward of ``prod`` would make a GPU's host wait."""
    return size[:, 0] * size[:, 1]
