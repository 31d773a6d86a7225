"""Deformable convolution: the 3x3 one of the alignment, and any in plain operators.

Letters: N images, C channels, G offset groups, T taps of a kernel (9 of 3x3), H', W' height and
width of the output.

The 3x3 one takes a feature map (N, C, H, W), offsets in cells (N, G*T*2, H, W) and a weight
(C_out, C, 3, 3), and gives (N, C_out, H, W). Channel g*18 + 2k of the offsets is dy of group g and
tap k = 3*ky + kx, the next one dx. Samples are bilinear, and zero outside the map.

Source: deformable convolution v1 (arXiv 1703.06211), without bias, and v2 (arXiv 1811.11168), which
has a mask.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from .bag_deform_conv import deform_conv3x3_by_embedding_bag

# Called as torchvision's operator, with a mask, stride, padding and dilation by name.
DeformForm = Callable[..., Tensor]


def deform_conv3x3(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Run the implementation for the device.

    Samples in the precision of ``offset``, whatever autocast asks for.
    """
    full = offset.dtype
    # The backward pass of torchvision's operator on CUDA adds in no fixed order.
    exact = feature.is_cpu or torch.are_deterministic_algorithms_enabled()
    if feature.is_cuda and not exact:
        aligned = deform_conv2d(feature.to(full), offset, weight.to(full), padding=1)
    elif feature.is_cpu or feature.is_cuda:
        aligned = deform_conv3x3_by_embedding_bag(feature.to(weight.dtype), offset, weight)
    else:
        tensors = feature.to(full), offset, weight.to(full)
        aligned = deform_conv2d_by_grid_sample(*tensors, padding=1)
    return aligned.to(feature.dtype)


def deform_conv2d_by_grid_sample(
    feature: Tensor,
    offset: Tensor,
    weight: Tensor,
    *,
    mask: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Compute what torchvision's ``deform_conv2d`` does by a sampling and a matrix product.

    Exporters know both, and any device has them.

    Args:
        feature: (N, C, H, W).
        offset: in cells, (N, G*T*2, H', W'), of a tap dy and then dx.
        weight: (C_out, C / groups, kernel height, kernel width).
        mask: factors of the samples, (N, G*T, H', W').
        stride: of rows and columns, as the next two.
        padding: rows and columns of zeros on each side.
        dilation: distance between taps, in cells.
    """
    n, c, h, w = feature.shape
    out_h, out_w = offset.shape[2:]
    kernel_h, kernel_w = (int(side) for side in weight.shape[2:])
    taps = kernel_h * kernel_w
    groups = offset.shape[1] // (2 * taps)
    steps, margins, gaps = _pair(stride), _pair(padding), _pair(dilation)
    rows = _places(out_h, kernel_h, steps[0], margins[0], gaps[0], offset)  # (kernel height, H')
    columns = _places(out_w, kernel_w, steps[1], margins[1], gaps[1], offset)
    shifts = offset.reshape(n * groups, 2 * taps, out_h, out_w)
    y = shifts[:, 0::2] + rows.repeat_interleave(kernel_w, dim=0).unsqueeze(2)
    x = shifts[:, 1::2] + columns.repeat(kernel_h, 1).unsqueeze(1)  # (N*G, T, H', W')
    # With align_corners=True a map of one column would be divided by zero.
    grid = torch.stack(((2 * x + 1) / w - 1, (2 * y + 1) / h - 1), dim=-1)
    sampled = F.grid_sample(
        feature.reshape(n * groups, c // groups, h, w), grid.flatten(1, 2), align_corners=False
    )  # (N*G, C/G, T*H', W')
    if mask is not None:
        sampled = sampled * mask.reshape(n * groups, 1, taps * out_h, out_w)
    samples = sampled.reshape(n, c * taps, out_h, out_w)
    return F.conv2d(samples, weight.reshape(len(weight), -1, 1, 1), groups=c // weight.shape[1])


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _places(size: int, taps: int, stride: int, padding: int, dilation: int, like: Tensor) -> Tensor:
    """Where on an axis each tap samples for each cell of the output, in cells, (taps, size)."""
    cell = torch.arange(size, dtype=like.dtype, device=like.device) * stride - padding
    return cell + torch.arange(taps, dtype=like.dtype, device=like.device).view(-1, 1) * dilation
