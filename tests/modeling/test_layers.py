"""The head's convolutions and how they start."""

import torch
from torch import nn

from clq.modeling.layers import conv_predictor, conv_tower


def test_a_tower_is_convolution_norm_and_relu():
    torch.manual_seed(0)
    tower = conv_tower(64, 3, 16)
    assert len(tower) == 3
    names = {name for name, _ in tower.named_parameters()}
    assert names == {
        f"{i}.{part}" for i in range(3) for part in ("weight", "norm.weight", "norm.bias")
    }
    for block in tower:
        assert isinstance(block.norm, nn.GroupNorm) and block.norm.num_groups == 16
        assert abs(block.weight.std().item() - 0.01) < 1e-3
    x = torch.randn(1, 64, 5, 7)
    y = tower(x)
    assert y.shape == x.shape and (y >= 0).all()


def test_a_predictor_starts_at_its_bias():
    conv = conv_predictor(256, 4, bias=-2.0)
    assert torch.equal(conv.bias.detach(), torch.full((4,), -2.0))
    assert abs(conv.weight.std().item() - 0.01) < 1e-3
    assert torch.equal(conv(torch.zeros(1, 256, 3, 3)), torch.full((1, 4, 3, 3), -2.0))
