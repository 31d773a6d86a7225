"""3x3 deformable convolution by embedding bags, the fast implementation on CPU.

A sample of the convolution is a bag: four rows of a channels-last table, weighted as bilinear
interpolation says. The samples of a block of cells are the columns of one matrix product, and no
more than a block's columns are ever in memory, as the backward pass takes them again.

PyTorch sees two operators, so that ``torch.compile`` has one call each to place in its graph.

Letters: N images, C channels, G offset groups, T = 9 taps of a kernel, S = H * W cells, B cells of
a block.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_TAPS = 9
# Cells whose columns lie in memory at a time: on CPU few enough for a cache; on a GPU, where this
# is the deterministic implementation, so many that launching the kernels takes no time.
_CPU_BLOCK, _GPU_BLOCK = 1536, 1 << 15
# Cells of zeros before and after a map, so that a sample at its border, or beyond, is no exception.
_BEFORE, _AFTER = 1, 2


def deform_conv3x3_by_embedding_bag(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """An implementation of :func:`clq.modeling.deform_conv.deform_conv3x3`; arguments as there.

    Samples in the precision of ``feature``; the products are in that which autocast asks for.
    """
    device = feature.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else feature.dtype
    return _convolve(feature, offset, weight, dtype)


@torch.library.custom_op("clq::bag_deform_conv3x3", mutates_args=())
def _convolve(feature: Tensor, offset: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    n, _, h, w = feature.shape
    kernel = _kernel(weight).to(dtype)  # (T*C, C_out)
    output = _empty_maps(feature, (n, len(weight), h, w), dtype)
    rows = output.permute(0, 2, 3, 1).view(n, h * w, len(weight))
    for image, table in enumerate(_tables(feature, offset)):
        for cells, shifts in _blocks(offset[image]):
            samples = _locate(shifts, cells, h, w)
            columns = _bags(table, samples.rows, samples.weights()).view(len(cells), -1)
            torch.mm(columns.to(dtype), kernel, out=rows[image, cells.start : cells.stop])
    return output


@torch.library.custom_op("clq::bag_deform_conv3x3_backward", mutates_args=())
def _gradients(
    grad_output: Tensor, feature: Tensor, offset: Tensor, weight: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, h, w = feature.shape
    grads = grad_output.permute(0, 2, 3, 1).flatten(1, 2).to(dtype)  # (N, S, C_out)
    kernel = _kernel(weight).to(dtype)
    grad_kernel = torch.zeros_like(kernel, dtype=weight.dtype)
    grad_offset = torch.empty_like(offset, memory_format=torch.contiguous_format)
    grad_padded = feature.new_zeros(n, *_padded(h, w), c)
    for image, table in enumerate(_tables(feature, offset)):
        grad_table = grad_padded[image].view(table.shape)
        for cells, shifts in _blocks(offset[image]):
            grad = grads[image, cells.start : cells.stop]  # (B, C_out)
            grad_bags = (grad @ kernel.T).to(table.dtype).view(-1, table.shape[1])
            samples = _locate(shifts, cells, h, w)
            weights = samples.weights()
            columns = _bags(table, samples.rows, weights).view(len(cells), -1)  # (B, T*C)
            grad_kernel += columns.to(dtype).T @ grad
            del columns
            grad_table += _scatter(grad_bags, samples.rows, weights, len(table))
            grad_shifts = _shift_gradient(table, samples, grad_bags)  # (2, B*T*G)
            grad_shifts = grad_shifts.view(2, len(cells), NUM_TAPS, -1).permute(3, 2, 0, 1)
            grad_offset[image].flatten(1)[:, cells.start : cells.stop] = grad_shifts.flatten(0, 2)
    grad_feature = grad_padded[:, _BEFORE : _BEFORE + h, _BEFORE : _BEFORE + w]
    grad_weight = grad_kernel.view(3, 3, c, -1).permute(3, 2, 0, 1).contiguous()
    return grad_feature.permute(0, 3, 1, 2), grad_offset, grad_weight


class _Samples(NamedTuple):
    """Sampling points of a block: table rows of the four cells around, and where in between.

    Fractions are how far a point lies beyond its upper and left cells. A slope is the derivative
    of a fraction by the offset: 1, or 0 outside the map.
    """

    rows: Tensor  # int32 (B*T*G, 4)
    y: Tensor  # fraction, (B, T*G)
    y_slope: Tensor
    x: Tensor
    x_slope: Tensor

    def weights(self) -> Tensor:
        """Bilinear weights of the four rows, (B*T*G, 4)."""
        return _outer((1 - self.y, self.y), (1 - self.x, self.x))

    def slopes(self) -> tuple[Tensor, Tensor]:
        """Derivatives of the weights by dy and by dx."""
        by_dy = _outer((-self.y_slope, self.y_slope), (1 - self.x, self.x))
        return by_dy, _outer((1 - self.y, self.y), (-self.x_slope, self.x_slope))


def _outer(ys: tuple[Tensor, Tensor], xs: tuple[Tensor, Tensor]) -> Tensor:
    return torch.stack([y * x for y in ys for x in xs], dim=-1).view(-1, 4)


def _locate(shifts: Tensor, cells: range, h: int, w: int) -> _Samples:
    """Sampling points of a block in a map of that height and width.

    Args:
        shifts: offsets in cells, (G*T*2, B).
        cells: indices of the block's cells in the map, row-major.
    """
    num_groups = len(shifts) // (2 * NUM_TAPS)
    planes = shifts.view(num_groups, NUM_TAPS, 2, -1).permute(2, 3, 1, 0).flatten(2)  # (2, B, T*G)
    cell = torch.arange(cells.start, cells.stop, device=shifts.device).unsqueeze(1)  # (B, 1)
    tap = torch.arange(NUM_TAPS, device=shifts.device).repeat_interleave(num_groups)  # (T*G,)
    row, y, y_slope = _between_cells(planes[0] + (cell // w + tap // 3 - 1), h)  # (B, T*G)
    column, x, x_slope = _between_cells(planes[1] + (cell % w + tap % 3 - 1), w)
    group = torch.arange(num_groups, device=shifts.device).repeat(NUM_TAPS)  # (T*G,)
    right, below = num_groups, num_groups * _padded(h, w)[1]
    corner = (row + _BEFORE) * below + (column + _BEFORE) * right + group
    corners = torch.stack((corner, corner + right, corner + below, corner + below + right), dim=-1)
    return _Samples(corners.int().view(-1, 4), y, y_slope, x, x_slope)


def _between_cells(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The cell at or before a position on an axis, the fraction beyond it, and its slope.

    A position outside the map is moved into the zeros around it. One that is not a number is in
    cell 0 and has no fraction.
    """
    held = position.clamp(-1, size)
    low = held.floor()
    return low.nan_to_num().int(), held - low, (held == position).to(position.dtype)


def _padded(h: int, w: int) -> tuple[int, int]:
    return h + _BEFORE + _AFTER, w + _BEFORE + _AFTER


def _tables(feature: Tensor, offset: Tensor) -> Iterator[Tensor]:
    """Lay out each image's padded map, a row for each cell and group, (S'*G, C/G)."""
    num_groups = offset.shape[1] // (2 * NUM_TAPS)
    around = (0, 0, _BEFORE, _AFTER, _BEFORE, _AFTER)
    for image in feature.permute(0, 2, 3, 1):  # (H, W, C)
        yield F.pad(image, around).view(-1, feature.shape[1] // num_groups)


def _blocks(offset: Tensor) -> Iterator[tuple[range, Tensor]]:
    """Cells and their offsets, (G*T*2, B), block by block, of one image's (G*T*2, H, W)."""
    start, size = 0, _CPU_BLOCK if offset.is_cpu else _GPU_BLOCK
    for shifts in offset.flatten(1).split(size, dim=1):
        yield range(start, start + shifts.shape[1]), shifts
        start += shifts.shape[1]


def _empty_maps(like: Tensor, shape: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
    """Channels-last, and no view of a tensor, so that it may be changed in place."""
    layout = torch.channels_last
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)


def _kernel(weight: Tensor) -> Tensor:
    """The weight (C_out, C, 3, 3) as the other factor of the product, (T*C, C_out)."""
    return weight.permute(2, 3, 1, 0).flatten(0, 2)


def _bags(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of four rows each, (B*T*G, C/G)."""
    return F.embedding_bag(rows, table, per_sample_weights=weights.to(table.dtype), mode="sum")


def _shift_gradient(table: Tensor, samples: _Samples, grad_bags: Tensor) -> Tensor:
    """Gradient of each sample's dy and dx, (2, B*T*G)."""
    return torch.stack(
        [
            _bags(table, samples.rows, slope).mul_(grad_bags).sum(dim=-1)
            for slope in samples.slopes()
        ]
    )


def _scatter(grad_bags: Tensor, rows: Tensor, weights: Tensor, length: int) -> Tensor:
    """Gradient of a table of that length: each row's weighted sum over the bags that it is in.

    Sorted by row, these are bags as well, and no two of them add to one place.
    """
    rows, order = rows.flatten().sort(stable=True)
    row = torch.arange(length, dtype=rows.dtype, device=rows.device)
    return F.embedding_bag(
        (order // 4).int(),
        grad_bags,
        offsets=torch.searchsorted(rows, row, out_int32=True),
        per_sample_weights=weights.flatten()[order].to(grad_bags.dtype),
        mode="sum",
    )


@_convolve.register_fake
def _(feature: Tensor, offset: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    n, _, h, w = feature.shape
    return _empty_maps(feature, (n, len(weight), h, w), dtype)


@_gradients.register_fake
def _(
    grad_output: Tensor, feature: Tensor, offset: Tensor, weight: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, h, w = feature.shape
    grad_padded = feature.new_empty(n, *_padded(h, w), c)
    grad_feature = grad_padded[:, :h, :w].permute(0, 3, 1, 2)
    return grad_feature, offset.new_empty(offset.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, torch.dtype], output: Tensor) -> None:
    *tensors, ctx.dtype = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients(grad_output, *ctx.saved_tensors, ctx.dtype), None


_convolve.register_autograd(_backward, setup_context=_save)
