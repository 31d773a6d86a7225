"""Quality branches, which predict how well a box fits.

A branch defines where its logit comes from, its target, the scores that it counts in, and the
weight of each positive in the box losses. Letters: N images, P matched (positive) anchors.
"""

import torch
from torch import Tensor, nn

from .layers import conv_predictor


class NoQuality(nn.Module):
    """No prediction: the score is the class probability. Base of the branches that predict."""

    train_alpha = 0.0  # exponent of the quality in the score that the class loss trains
    test_alpha = 0.0  # and in the score that ranks detections

    def __init__(self, in_channels: int, alpha: float) -> None:
        """
        Args:
            in_channels: channels of the towers.
            alpha: exponent of the quality in the joint score, for a branch that takes it.
        """
        super().__init__()

    def forward(self, classified: Tensor, regressed: Tensor, pred_dists: Tensor) -> Tensor | None:
        """Quality logits (N, 1, H, W), or None.

        Args:
            classified: feature after the classification tower, (N, C, H, W).
            regressed: feature after the regression tower, (N, C, H, W).
            pred_dists: coded boxes, (N, D, H, W).
        """
        return None

    def target(self, iou: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor | None:
        """Target of the logit, in [0, 1], (P,); None for a branch without a loss of its own.

        Args:
            iou: of the decoded boxes with their ground truth, detached, (P,).
            anchors: xyxy in pixels, (P, 4).
            gt_boxes: xyxy in pixels, (P, 4).
        """
        return None

    def box_weights(self, scores: Tensor, target: Tensor | None) -> Tensor:
        """Weight of each positive in the box losses, from its best score and its target; (P,)."""
        return scores


class LocalizationQuality(NoQuality):
    """IoU of the predicted box, from the classification feature (arXiv 2309.13269)."""

    def __init__(self, in_channels: int, alpha: float) -> None:
        super().__init__(in_channels, alpha)
        self.train_alpha = self.test_alpha = alpha
        self.predictor = conv_predictor(in_channels, 1)

    def forward(self, classified: Tensor, regressed: Tensor, pred_dists: Tensor) -> Tensor:
        return self.predictor(classified)

    def target(self, iou: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor | None:
        return iou


class Centerness(NoQuality):
    """Centerness of a cell in its box, from the regression feature.

    The class loss does not train it. Source: FCOS (arXiv 1904.01355), as ATSS uses it.
    """

    test_alpha = 1.0

    def __init__(self, in_channels: int, alpha: float) -> None:
        super().__init__(in_channels, alpha)
        self.predictor = conv_predictor(in_channels, 1)

    def forward(self, classified: Tensor, regressed: Tensor, pred_dists: Tensor) -> Tensor:
        return self.predictor(regressed)

    def target(self, iou: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), FCOS equation 3."""
        centers = (anchors[:, :2] + anchors[:, 2:]) / 2
        lt, rb = centers - gt_boxes[:, :2], gt_boxes[:, 2:] - centers  # (P, 2)
        ratios = torch.minimum(lt, rb) / torch.maximum(lt, rb)
        return (ratios[:, 0] * ratios[:, 1]).sqrt()

    def box_weights(self, scores: Tensor, target: Tensor | None) -> Tensor:
        assert target is not None
        return target
