"""3x3 deformable convolution, three equivalent implementations.

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

from .bag_deform_conv import NUM_TAPS, deform_conv3x3_by_embedding_bag


def deform_conv3x3(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Run the implementation for the device, or for the export that is running.

    Samples in the precision of ``offset``, whatever autocast asks for.
    """
    full = offset.dtype
    exporting = torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
    # The backward pass of torchvision's operator on CUDA adds in no fixed order.
    exact = feature.is_cpu or torch.are_deterministic_algorithms_enabled()
    if feature.is_cuda and not exporting and not exact:
        aligned = deform_conv2d(feature.to(full), offset, weight.to(full), padding=1)
    elif (feature.is_cpu or feature.is_cuda) and not exporting:
        aligned = deform_conv3x3_by_embedding_bag(feature.to(weight.dtype), offset, weight)
    else:
        aligned = deform_conv3x3_by_grid_sample(feature.to(full), offset, weight.to(full))
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


def _sampling_points(offset: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column that each cell, tap and group samples, in cells, each (N, H, W, T, G)."""
    n, _, h, w = offset.shape
    shifts = offset.view(n, -1, NUM_TAPS, 2, h, w).permute(3, 0, 4, 5, 2, 1)  # (2, N, H, W, T, G)
    tap = _range(3, offset) - 1
    ky, kx = tap.repeat_interleave(3).view(NUM_TAPS, 1), tap.repeat(3).view(NUM_TAPS, 1)
    y = shifts[0] + (_range(h, offset).view(h, 1, 1, 1) + ky)
    x = shifts[1] + (_range(w, offset).view(w, 1, 1) + kx)
    return y, x


def _range(size: int, like: Tensor) -> Tensor:
    """0 .. size - 1 in the type and on the device of another tensor."""
    return torch.arange(size, dtype=like.dtype, device=like.device)
