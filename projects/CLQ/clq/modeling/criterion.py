"""Training objective: the losses of each anchor, their weights and normalizers.

Letters: N images, R anchors over all levels of an image, P matched (positive) anchors of the
batch, K classes, D channels of a coded box.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .anchors import anchor_strides
from .box_coding import BoxCoding
from .chunked_sum import chunked_sum
from .joint_score import joint_scores
from .loss_normalizer import LossSums, Normalizer, normalize
from .losses import QualityFocalLoss, paired_iou, quality_loss
from .quality import NoQuality


class Samples(NamedTuple):
    """Samples that the class loss of a batch counts."""

    positive_idxs: Tensor  # (P,), among the N * R anchors
    number: Tensor  # fp32 scalar, by which that loss is divided


class Positives(NamedTuple):
    """Positive anchors of a batch; boxes are xyxy in pixels."""

    classes: Tensor  # (P,)
    anchors: Tensor  # (P, 4)
    gt_boxes: Tensor  # (P, 4)
    pred_logits: Tensor  # (P, K)
    pred_dists: Tensor  # (P, D)
    pred_quality: Tensor | None  # (P, 1)
    iou: Tensor  # (P,), of the decoded boxes with gt_boxes, detached
    giou: Tensor  # (P,), likewise, attached to the graph


@dataclass(frozen=True)
class CLQCriterion:
    """Class loss on the score, box losses weighted as the quality branch says, quality loss.

    Source: arXiv 2309.13269, with the normalizers of ATSS and Generalized Focal Loss.
    """

    box2box_transform: BoxCoding
    quality: NoQuality
    class_loss: QualityFocalLoss = QualityFocalLoss()
    box_reg_weight: float = 2.0  # of the GIoU loss
    dfl_weight: float = 0.25  # of the distribution focal loss
    quality_weight: float = 1.0  # of the quality loss
    weigh_quality_by_score: bool = False  # weigh and normalize the quality loss as the box losses

    def __call__(
        self,
        anchors: Tensor,
        pred_logits: Tensor,
        pred_dists: Tensor,
        pred_quality: Tensor | None,
        gt_labels: Tensor,
        gt_boxes: Tensor,
        samples: Samples | None = None,
        normalizer: Normalizer = normalize,
    ) -> dict[str, Tensor]:
        """
        Args:
            anchors: xyxy in pixels, (R, 4).
            pred_logits: (N, R, K).
            pred_dists: (N, R, D).
            pred_quality: (N, R, 1), or None without quality branch.
            gt_labels: class, K for background, -1 for no loss of any kind, (N, R).
            gt_boxes: xyxy in pixels, (N, R, 4), read where an anchor is positive.
            samples: of these labels, by :meth:`samples`; default: found here.
            normalizer: divides the sums of the losses.

        Returns:
            ``loss_cls``, ``loss_box_reg``, and of ``loss_dfl`` and ``loss_quality`` what the box
            coding and the quality branch have; fp32 scalars.
        """
        num_classes = pred_logits.shape[-1]
        idxs, num_samples = samples or self.samples(gt_labels, num_classes)  # (P,) and scalar
        logits, dists = pred_logits.flatten(0, 1), pred_dists.flatten(0, 1)  # (N*R, ...)
        quality = None if pred_quality is None else pred_quality.flatten(0, 1)
        positives = self._gather(idxs, anchors, logits, dists, quality, gt_labels, gt_boxes)

        on_objects, scores = self._objects(positives)
        is_background = (gt_labels == num_classes).view(-1, 1)  # (N*R, 1)
        rows = (logits, is_background) if quality is None else (logits, is_background, quality)
        on_background = chunked_sum(self._background, *rows)
        by_samples = {"loss_cls": on_objects + on_background}
        target = self.quality.target(positives.iou, positives.anchors, positives.gt_boxes)
        weights = self.quality.box_weights(scores, target)  # (P,)
        by_weight = self._box(positives, weights)
        if positives.pred_quality is not None and target is not None:
            loss = quality_loss(positives.pred_quality.squeeze(1), target)  # (P,)
            if self.weigh_quality_by_score:
                by_weight["loss_quality"] = self.quality_weight * (weights * loss).sum()
            else:
                by_samples["loss_quality"] = self.quality_weight * loss.sum()
        return normalizer(LossSums(by_samples, by_weight, num_samples, weights.sum()))

    def samples(self, gt_labels: Tensor, num_classes: int) -> Samples:
        """Find the samples of labels (N, R). The host synchronizes here."""
        is_positive = (gt_labels >= 0) & (gt_labels != num_classes)
        idxs = is_positive.flatten().nonzero().squeeze(1)
        return Samples(idxs, self.class_loss.num_samples(is_positive))

    def _gather(
        self,
        idxs: Tensor,
        anchors: Tensor,
        pred_logits: Tensor,
        pred_dists: Tensor,
        pred_quality: Tensor | None,
        gt_labels: Tensor,
        gt_boxes: Tensor,
    ) -> Positives:
        """The rows of the positives, (P,), of predictions over all images, (N*R, ...)."""
        dists = pred_dists[idxs]
        pos_anchors = anchors[idxs % len(anchors)]
        pos_gt_boxes = gt_boxes.flatten(0, 1)[idxs]
        boxes = self.box2box_transform.apply_deltas(dists, pos_anchors)
        strides = anchor_strides(pos_anchors)  # (P, 1)
        iou, giou = paired_iou(boxes / strides, pos_gt_boxes / strides)
        return Positives(
            classes=gt_labels.flatten()[idxs],
            anchors=pos_anchors,
            gt_boxes=pos_gt_boxes,
            pred_logits=pred_logits[idxs],
            pred_dists=dists,
            pred_quality=None if pred_quality is None else pred_quality[idxs],
            iou=iou.detach(),
            giou=giou,
        )

    def _objects(self, positives: Positives) -> tuple[Tensor, Tensor]:
        """Sum of the class loss of positives, and their best scores, detached, (P,)."""
        alpha = self.quality.train_alpha
        log_p, log_1mp = joint_scores(positives.pred_logits, positives.pred_quality, alpha)
        target = self.class_loss.target(positives.iou).to(log_p.dtype)  # (P,), at their class
        targets = torch.zeros_like(log_p).scatter(
            1, positives.classes.unsqueeze(1), target.unsqueeze(1)
        )  # (P, K)
        loss = self.class_loss(log_p, log_1mp, targets).sum()
        return loss, log_p.detach().amax(dim=1).exp()

    def _background(
        self, pred_logits: Tensor, is_background: Tensor, pred_quality: Tensor | None = None
    ) -> Tensor:
        """Class loss of rows (rows, K) towards 0, of those that are background."""
        log_p, log_1mp = joint_scores(pred_logits, pred_quality, self.quality.train_alpha)
        return self.class_loss.on_background(log_p, log_1mp) * is_background

    def _box(self, positives: Positives, weights: Tensor) -> dict[str, Tensor]:
        """Sums of the GIoU loss, and of what the box coding adds, with weights (P,)."""
        losses = {"loss_box_reg": self.box_reg_weight * (weights * (1 - positives.giou)).sum()}
        coded = (positives.pred_dists, positives.anchors, positives.gt_boxes)
        for name, loss in self.box2box_transform.losses(*coded).items():
            losses[name] = self.dfl_weight * (weights * loss).sum()
        return losses
