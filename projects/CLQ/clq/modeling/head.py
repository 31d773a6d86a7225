"""Prediction head: two towers, shared over the levels.

Letters: N images, L levels, K classes, D channels of a coded box.
"""

import math
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .alignment import DeformableAlignment
from .box_coding import BoxCoding
from .family import BOX_CODINGS, QUALITY_BRANCHES
from .layers import conv_predictor, conv_tower
from .quality import NoQuality


class CLQHead(nn.Module):
    """Predict boxes first, then classify features that are aligned to those boxes.

    The regression tower reads the feature map as it is. The classification tower reads it after
    :class:`DeformableAlignment`, if there is one, has gathered it from where the predicted box
    lies. The quality branch reads either tower.

    Source: arXiv 2309.13269, network architecture.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_levels: int,
        num_classes: int,
        num_convs: int = 4,
        num_groups: int = 32,
        prior_prob: float = 0.01,
        box2box_transform: BoxCoding,
        quality: NoQuality,
        alignment: DeformableAlignment | None,
    ) -> None:
        """
        Args:
            in_channels: channels of every feature map.
            num_levels: levels of the feature pyramid.
            num_classes: K.
            num_convs: convolutions in each tower.
            num_groups: groups of the towers' GroupNorm.
            prior_prob: class probability that the initial bias stands for.
            box2box_transform: turns predicted boxes into the distances that steer the alignment.
            quality: predicts how well a box fits.
            alignment: gathers the feature that is classified; None takes it as it is.
        """
        super().__init__()
        self.box2box_transform = box2box_transform
        self.alignment = alignment
        self.bbox_subnet = conv_tower(in_channels, num_convs, num_groups)
        self.cls_subnet = conv_tower(in_channels, num_convs, num_groups)
        self.bbox_pred = conv_predictor(in_channels, box2box_transform.num_channels)
        prior_bias = math.log(prior_prob / (1 - prior_prob))
        self.cls_score = conv_predictor(in_channels, num_classes, bias=prior_bias)
        self.quality = quality
        self.scales = nn.Parameter(torch.ones(num_levels))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> dict:
        (channels,) = {shape.channels for shape in input_shape}  # it is shared over the levels
        options = cfg.MODEL.CLQ
        return {
            "in_channels": channels,
            "num_levels": len(input_shape),
            "num_classes": options.NUM_CLASSES,
            "num_convs": options.NUM_CONVS,
            "num_groups": options.NUM_GROUPS,
            "prior_prob": options.PRIOR_PROB,
            "box2box_transform": BOX_CODINGS[options.BOX_CODING](options),
            "quality": QUALITY_BRANCHES[options.QUALITY](channels, options.ALPHA),
            "alignment": (
                DeformableAlignment(channels, options.OFFSET_GROUPS, options.DETACH_OFFSETS)
                if options.ALIGNMENT
                else None
            ),
        }

    def forward(
        self, features: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """
        Args:
            features: one map per level, from fine to coarse, (N, C, H, W).

        Returns:
            Raw logits, one tensor per level: ``pred_logits`` (N, K, H, W), ``pred_dists``
            (N, D, H, W) after the level's scale, and ``pred_quality`` (N, 1, H, W), or None
            without quality branch.
        """
        assert len(features) == len(self.scales), f"{len(features)} != {len(self.scales)}"
        pred_logits, pred_dists, pred_quality = [], [], []
        for feature, scale in zip(features, self.scales):
            regressed = self.bbox_subnet(feature)
            dists = self.bbox_pred(regressed) * scale
            if self.alignment is not None:
                feature = self.alignment(feature, self.box2box_transform.distances(dists))
            classified = self.cls_subnet(feature)
            pred_dists.append(dists)
            pred_logits.append(self.cls_score(classified))
            quality = self.quality(classified, regressed, dists)
            if quality is not None:
                pred_quality.append(quality)
        return pred_logits, pred_dists, pred_quality or None
