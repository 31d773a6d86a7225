"""Class losses: towards what, how focused, and by how many samples divided.

Letters: N images, R anchors of an image, P matched (positive) anchors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .losses import background_focal_loss, quality_focal_loss


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
        """Loss of each element towards 0, unreduced."""
        return background_focal_loss(log_p, log_1mp, self.beta)

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
