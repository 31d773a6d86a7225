"""Deformable 3x3 convolution in three forms of equal value and gradient.

Letters: N images, C channels, G offset groups, T = 9 taps of a kernel, S = H * W cells.

All take a feature map (N, C, H, W), offsets in cells (N, G*T*2, H, W) and a weight
(C_out, C, 3, 3), and give (N, C_out, H, W). Channel g*18 + 2k of the offsets is dy of group g and
tap k = 3*ky + kx, the next one dx. Samples are bilinear, and zero outside the map.

Source: deformable convolution v1 (arXiv 1703.06211), without mask or bias.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

NUM_TAPS = 9


def deform_conv3x3(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The form that suits the device, or the export that is running.

    Samples in the precision of ``offset``, whatever autocast says of the rest.
    """
    sampled = feature.to(offset.dtype)
    exporting = torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
    # The backward pass of torchvision's operator on CUDA adds in no fixed order.
    exact = feature.is_cpu or torch.are_deterministic_algorithms_enabled()
    if feature.is_cuda and not exporting and not exact:
        aligned = deform_conv2d(sampled, offset, weight.to(offset.dtype), padding=1)
    elif (feature.is_cpu or feature.is_cuda) and not exporting:
        aligned = deform_conv3x3_by_embedding_bag(sampled, offset, weight)
    else:
        aligned = deform_conv3x3_by_grid_sample(sampled, offset, weight)
    return aligned.to(feature.dtype)


def deform_conv3x3_by_grid_sample(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Plain operators only, for export and any device: one sampling, then a matrix product."""
    n, c, h, w = feature.shape
    y, x = _sampling_points(offset)  # (N, H, W, T, G)
    # With align_corners=True a map of one column would be divided by zero.
    grid = torch.stack(((2 * x + 1) / w - 1, (2 * y + 1) / h - 1), dim=-1)
    grid = grid.permute(0, 4, 3, 1, 2, 5)  # (N, G, T, H, W, 2)
    num_groups = grid.shape[1]
    sampled = F.grid_sample(
        feature.reshape(n * num_groups, c // num_groups, h, w),
        grid.reshape(n * num_groups, NUM_TAPS * h, w, 2),
        align_corners=False,
    )  # (N*G, C/G, T*H, W)
    columns = sampled.reshape(n, c * NUM_TAPS, h * w)
    return (weight.flatten(1) @ columns).view(n, -1, h, w)


def deform_conv3x3_by_embedding_bag(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The fast form on CPU: each sample is a bag of four weighted rows of a channels-last table."""
    n, c, h, w = feature.shape
    rows, weights = _bilinear_bags(offset)  # (N*S*T*G, 4)
    num_groups = offset.shape[1] // (2 * NUM_TAPS)
    table = feature.permute(0, 2, 3, 1).reshape(-1, c // num_groups)  # (N*S*G, C/G)
    bags = F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
    columns = bags.view(n * h * w, NUM_TAPS * c)
    kernel = weight.permute(2, 3, 1, 0).reshape(NUM_TAPS * c, -1)
    return (columns @ kernel).view(n, h, w, -1).permute(0, 3, 1, 2)


def _sampling_points(offset: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column that each cell, tap and group samples, in cells, each (N, H, W, T, G)."""
    n, _, h, w = offset.shape
    shifts = offset.view(n, -1, NUM_TAPS, 2, h, w).permute(3, 0, 4, 5, 2, 1)  # (2, N, H, W, T, G)
    tap = _range(3, offset) - 1
    ky, kx = tap.repeat_interleave(3).view(NUM_TAPS, 1), tap.repeat(3).view(NUM_TAPS, 1)
    y = shifts[0] + (_range(h, offset).view(h, 1, 1, 1) + ky)
    x = shifts[1] + (_range(w, offset).view(w, 1, 1) + kx)
    return y, x


def _bilinear_bags(offset: Tensor) -> tuple[Tensor, Tensor]:
    """The four cells around each sampling point, as table rows, and their bilinear weights.

    Returns:
        rows: int32 (N*S*T*G, 4), indices into a table of N*S*G rows, group last.
        weights: (N*S*T*G, 4), 0 for a cell outside the map.
    """
    n, channels, h, w = offset.shape
    num_groups = channels // (2 * NUM_TAPS)
    y, x = _sampling_points(offset)  # (N, H, W, T, G)
    ys, y_weights = _neighbours(y, h)  # (N, H, W, T, G, 2)
    xs, x_weights = _neighbours(x, w)
    image = _range(n, ys).view(n, 1, 1, 1, 1, 1, 1) * (h * w)
    group = _range(num_groups, ys).view(num_groups, 1, 1)
    cells = image + ys.unsqueeze(-1) * w + xs.unsqueeze(-2)  # (N, H, W, T, G, 2, 2)
    weights = y_weights.unsqueeze(-1) * x_weights.unsqueeze(-2)
    return (cells * num_groups + group).view(-1, 4), weights.view(-1, 4)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two cells around a position on one axis and their linear weights, a last dim of 2.

    A cell outside the map has weight 0 and an index inside.
    """
    low = position.detach().floor()
    fraction = position - low
    cells = torch.stack((low, low + 1), dim=-1)
    is_inside = (cells >= 0) & (cells < size)
    weights = torch.stack((1 - fraction, fraction), dim=-1) * is_inside
    return cells.clamp(0, size - 1).int(), weights


def _range(size: int, like: Tensor) -> Tensor:
    """0 .. size - 1 in the type and on the device of another tensor."""
    return torch.arange(size, dtype=like.dtype, device=like.device)
