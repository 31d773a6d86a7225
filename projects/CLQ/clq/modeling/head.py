"""The prediction head: two towers shared over the levels, and what they predict.

Letters: N images, L levels, K classes, B = reg_max + 1 bins.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn

from .alignment import DeformableAlignment
from .box_coding import DistributionBoxTransform


class CLQHead(nn.Module):
    """Predict boxes first, then classify features that are aligned to those boxes.

    The regression tower reads the feature map as it is. The classification tower reads it after
    :class:`DeformableAlignment` has gathered it from where the predicted box lies, and predicts
    classes and the localization quality of that box.

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
        offset_groups: int = 4,
        prior_prob: float = 0.01,
        box2box_transform: DistributionBoxTransform,
    ) -> None:
        """
        Args:
            in_channels: channels of every feature map.
            num_levels: levels of the feature pyramid.
            num_classes: K.
            num_convs: convolutions in each tower.
            num_groups: groups of the towers' GroupNorm.
            offset_groups: channel groups that the alignment moves apart from each other.
            prior_prob: class probability that the initial bias stands for.
            box2box_transform: turns predicted distributions into distances.
        """
        super().__init__()
        self.box2box_transform = box2box_transform
        self.alignment = DeformableAlignment(in_channels, offset_groups)
        self.bbox_subnet = _tower(in_channels, num_convs, num_groups)
        self.cls_subnet = _tower(in_channels, num_convs, num_groups)
        num_bins = box2box_transform.reg_max + 1
        self.bbox_pred = _predictor(in_channels, 4 * num_bins)
        prior_bias = math.log(prior_prob / (1 - prior_prob))
        self.cls_score = _predictor(in_channels, num_classes, bias=prior_bias)
        self.quality = _predictor(in_channels, 1)
        self.scales = nn.Parameter(torch.ones(num_levels))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> dict:
        in_channels = {shape.channels for shape in input_shape}
        assert len(in_channels) == 1, f"the head is shared over the levels, got {in_channels}"
        options = cfg.MODEL.CLQ
        return {
            "in_channels": in_channels.pop(),
            "num_levels": len(input_shape),
            "num_classes": options.NUM_CLASSES,
            "num_convs": options.NUM_CONVS,
            "num_groups": options.NUM_GROUPS,
            "offset_groups": options.OFFSET_GROUPS,
            "prior_prob": options.PRIOR_PROB,
            "box2box_transform": DistributionBoxTransform(options.REG_MAX),
        }

    def forward(
        self, features: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """
        Args:
            features: one map per level, from fine to coarse, (N, C, H, W).

        Returns:
            Raw logits, one tensor per level: ``pred_logits`` (N, K, H, W), ``pred_dists``
            (N, 4B, H, W) after the level's scale, side-major, and ``pred_quality`` (N, 1, H, W).
        """
        assert len(features) == len(self.scales), f"{len(features)} != {len(self.scales)}"
        pred_logits, pred_dists, pred_quality = [], [], []
        for feature, scale in zip(features, self.scales):
            dists = self.bbox_pred(self.bbox_subnet(feature)) * scale
            aligned = self.alignment(feature, self.box2box_transform.distances(dists))
            classified = self.cls_subnet(aligned)
            pred_dists.append(dists)
            pred_logits.append(self.cls_score(classified))
            pred_quality.append(self.quality(classified))
        return pred_logits, pred_dists, pred_quality


def _tower(channels: int, num_convs: int, num_groups: int) -> nn.Sequential:
    """Blocks of 3x3 convolution without bias, GroupNorm and ReLU."""
    blocks = [
        Conv2d(
            channels,
            channels,
            kernel_size=3,
            padding=1,
            bias=False,
            norm=nn.GroupNorm(num_groups, channels),
            activation=F.relu,
        )
        for _ in range(num_convs)
    ]
    for block in blocks:
        nn.init.normal_(block.weight, std=0.01)
    return nn.Sequential(*blocks)


def _predictor(channels: int, out_channels: int, bias: float = 0.0) -> nn.Conv2d:
    """A 3x3 convolution with that initial bias."""
    conv = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.get_parameter("bias"), bias)
    return conv
