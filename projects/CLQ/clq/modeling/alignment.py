"""Deformable alignment of classification features to the predicted boxes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bag_deform_conv import NUM_TAPS
from .deform_conv import DeformForm, deform_conv3x3


class DeformableAlignment(nn.Module):
    """Sample a feature map where the box predicted at each cell says, by a 3x3 convolution.

    A 1x1 convolution without bias turns the four distances of the box into an offset for each
    group and tap; a deformable 3x3 convolution applies them. Classification trains the distances
    through the offsets, unless they are detached.

    Attributes:
        form: operator of the deformable convolution; None takes that of the device.

    Source: arXiv 2309.13269, feature alignment.
    """

    def __init__(self, channels: int, offset_groups: int = 4, detach: bool = False) -> None:
        """
        Args:
            channels: channels of the feature map, a multiple of ``offset_groups``.
            offset_groups: groups of channels that share an offset.
            detach: keep the gradient of classification away from the distances.
        """
        super().__init__()
        self.detach = detach
        self.form: DeformForm | None = None
        self.offset = nn.Conv2d(4, offset_groups * NUM_TAPS * 2, kernel_size=1, bias=False)
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        nn.init.normal_(self.offset.weight, std=0.1)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, feature: Tensor, distances: Tensor) -> Tensor:
        """
        Args:
            feature: (N, C, H, W).
            distances: ltrb in strides, (N, 4, H, W).

        Returns:
            Aligned feature after ReLU, (N, C, H, W).
        """
        distances = distances.detach() if self.detach else distances
        # In half precision, or in the TF32 that GPUs take for fp32, the offset of a large box would
        # be off by a good part of a cell.
        exact = torch.float64 if distances.is_cuda else distances.dtype
        with torch.autocast(feature.device.type, enabled=False):
            offset = F.conv2d(distances.to(exact), self.offset.weight.to(exact))
        offset = offset.to(distances.dtype)  # (N, G*T*2, H, W)
        if self.form is None:
            return deform_conv3x3(feature, offset, self.conv.weight).relu_()
        return self.form(feature, offset, self.conv.weight, padding=1).relu_()
