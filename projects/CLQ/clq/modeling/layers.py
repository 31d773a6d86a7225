"""Convolutions of the head."""

import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import nn


def conv_tower(channels: int, num_convs: int, num_groups: int) -> nn.Sequential:
    """Stack blocks of 3x3 convolution without bias, GroupNorm and ReLU."""
    blocks = []
    for _ in range(num_convs):
        norm = nn.GroupNorm(num_groups, channels)
        options = {"kernel_size": 3, "padding": 1, "bias": False}
        block = Conv2d(channels, channels, **options, norm=norm, activation=F.relu_)
        nn.init.normal_(block.weight, std=0.01)
        blocks.append(block)
    return nn.Sequential(*blocks)


def conv_predictor(channels: int, out_channels: int, bias: float = 0.0) -> nn.Conv2d:
    """3x3 convolution with an initial bias."""
    conv = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.get_parameter("bias"), bias)
    return conv
