"""The anchors nearest to each box on each level, by arithmetic on a grid or by brute force.

Letters: N images, L levels, R_l anchors of a level, M boxes, A = 2 axes (x, y), S longest side of
a level in cells, k nearest anchors of a level that are wanted, E cells of a level that are
examined for a box.

Candidates are packed into int64: the bits of the fp32 squared distance above the anchor's index.
Such bits are ordered as the distances are, so that packed candidates sort by distance and, at exact
ties, by index. No two of a box are equal, so that any sort is stable.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

_INDEX_BITS = 32
_INFINITY_BITS = 0x7F800000  # of an fp32 number
_NO_ANCHOR = _INFINITY_BITS << _INDEX_BITS  # from here on it is no candidate


class AnchorGrid(NamedTuple):
    """Layout of one anchor per cell, row-major, as of ``DefaultAnchorGenerator``.

    The generator's offset is read from the anchors.

    Attributes:
        strides: of the L levels, in pixels.
        sizes: height and width of the L levels, in cells.
    """

    strides: Sequence[float]
    sizes: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, strides: Sequence[float], features: Sequence[Tensor]) -> "AnchorGrid":
        """The grid of feature maps (..., H, W)."""
        return cls(strides, [(maps.shape[-2], maps.shape[-1]) for maps in features])


class NearestAnchors(Protocol):
    """Find the k nearest anchors of each level.

    Attributes:
        num_examined: anchors examined for one box, on all levels.
    """

    num_examined: int

    def __call__(self, centers: Tensor, image_idxs: Tensor, limits: Tensor) -> Tensor:
        """
        Args:
            centers: of M boxes, x and y in pixels, none of them NaN, (A, M).
            image_idxs: to which image a box belongs, (M,).
            limits: x and y in pixels where an image ends: anchors there are not its own, (A, N).

        Returns:
            The k nearest anchors of each level, packed, nearest first, (M, L*k). Where a level has
            fewer anchors in the image, entries that are no candidate fill up.
        """


def unpack_candidates(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Unpack candidates: which entries are one, and the indices of their anchors, else 0."""
    is_candidate = packed < _NO_ANCHOR
    return is_candidate, (packed & (2**_INDEX_BITS - 1)).mul_(is_candidate)


def row_of(like: Tensor, values: Sequence[float]) -> Tensor:
    """Make a 1-D tensor from Python numbers without a host-to-device sync."""
    return torch.cat([like.new_full((1,), value) for value in values])


class BruteForceNearest:
    """Search all anchors, of any layout. See :class:`NearestAnchors`."""

    def __init__(self, anchor_centers: Sequence[Tensor], topk: int) -> None:
        """
        Args:
            anchor_centers: of each level, x and y in pixels, (A, R_l).
            topk: k.
        """
        self.anchor_centers, self.topk = anchor_centers, topk
        self.num_examined = sum(level.shape[1] for level in anchor_centers)

    def __call__(self, centers: Tensor, image_idxs: Tensor, limits: Tensor) -> Tensor:
        limits = limits[:, image_idxs, None]  # (A, M, 1)
        nearest, start = [], 0
        for level in self.anchor_centers:
            x_square, y_square = (level[:, None] - centers[..., None]).square_()  # (M, R_l) each
            is_outside = (level[:, None] >= limits).any(dim=0)
            distance = (x_square + y_square).masked_fill_(is_outside, torch.inf)
            end = start + level.shape[1]
            packed = _pack(distance, torch.arange(start, end, device=level.device))
            lacking = packed.new_full((len(packed), max(self.topk - level.shape[1], 0)), _NO_ANCHOR)
            nearest.append(_smallest(torch.cat((packed, lacking), dim=1), self.topk))
            start = end
        return torch.cat(nearest, dim=1)


class GridNearest:
    """Search the cells around each box, with the same result. See :class:`NearestAnchors`.

    Rows and columns are ranked by their distance from the box. The cell of row rank a and column
    rank b, both from 1, is no nearer than the a * b cells of ranks up to these, itself among
    them, so that it can be one of the k nearest only where a * b <= k.

    fp32 asks for a few cells more. Where two rows, one on either side of the box, are equally far
    but for rounding, they may change ranks, or their cells may tie, and the lower index wins.
    Such rows are neighbours in rank. So of those a * b cells the nearer ones may be without
    (a - 1, b), (a, b - 1) and (a - 1, b - 1), and the k nearest have a * b <= k + 3 and ranks
    up to k + 1.

    Rows on the same side of the box differ by a stride or more, which fp32 tells apart as long as
    the box's centre is within a thousand strides of the level. Beyond, tied rows may be missed.
    """

    def __init__(self, anchor_centers: Sequence[Tensor], topk: int, grid: AnchorGrid) -> None:
        """
        Args:
            anchor_centers: of each level, x and y in pixels, (A, R_l).
            topk: k.
            grid: the anchors' layout.
        """
        counts = [height * width for height, width in grid.sizes]
        assert counts == [level.shape[1] for level in anchor_centers], (counts, grid)
        self.topk = topk
        self.coordinates = _axis_coordinates(anchor_centers, grid)  # (A, L, S + 1)
        self.strides = row_of(self.coordinates, grid.strides)[:, None, None]  # (L, 1, 1)
        ranks = torch.arange(topk + 2, device=self.coordinates.device)[:, None]  # (k + 2, 1)
        self.windows, self.half_windows = ranks, ranks / 2
        self.steps = ranks[1:] - 1  # (k + 1, 1)
        self.widths = row_of(ranks, [width for _, width in grid.sizes])[:, None, None]
        starts = [sum(counts[:i]) for i in range(len(counts))]
        self.starts = row_of(ranks, starts)[:, None, None]  # (L, 1, 1)
        num_cells = sum(min((topk + 3) // a, topk + 1) for a in range(1, topk + 2))
        products = ranks[1:] * ranks[1:].T  # (k + 1, k + 1)
        cells = products.flatten().argsort(stable=True)[:num_cells]  # (E,)
        self.cell_rows, self.cell_columns = cells // (topk + 1), cells % (topk + 1)
        self.num_examined = num_cells * len(counts)

    def __call__(self, centers: Tensor, image_idxs: Tensor, limits: Tensor) -> Tensor:
        # The rows and columns of an image are the first of the level.
        is_inside = self.coordinates[:, :, None] < limits[:, None, :, None]  # (A, L, N, S + 1)
        num_inside = is_inside.sum(dim=-1, dtype=limits.dtype)  # (A, L, N)
        places, squares = self._ranked(centers[:, None, None], num_inside[..., image_idxs])
        columns, rows = places  # (L, k + 1, M)
        x_squares, y_squares = squares
        distance = x_squares.index_select(1, self.cell_columns)  # (L, E, M)
        distance += y_squares.index_select(1, self.cell_rows)
        anchor_idxs = (self.starts + rows * self.widths).index_select(1, self.cell_rows)
        anchor_idxs += columns.index_select(1, self.cell_columns)
        packed = _pack(distance, anchor_idxs).permute(2, 0, 1).contiguous()  # (M, L, E)
        return _smallest(packed, self.topk).flatten(1)

    def _ranked(self, centers: Tensor, num_inside: Tensor) -> tuple[Tensor, Tensor]:
        """The k + 1 nearest columns and rows of each level, by rank.

        Args:
            centers: of the boxes, (A, 1, 1, M).
            num_inside: columns and rows that are in the box's image, (A, L, M).

        Returns:
            Which columns and rows, and the squares of their distances in pixels along the axis,
            infinite where there is none, (A, L, k + 1, M).
        """
        num_inside = num_inside.unsqueeze(2)
        position = (centers - self.coordinates[..., :1, None]) / self.strides  # in cells
        # Where the window of the w nearest begins. When it grows, its first or its last is new.
        begin = (position - self.half_windows).ceil_()  # (A, L, k + 2, M) for w = 0 .. k + 1
        begin = begin.minimum(num_inside - self.windows).clamp_(min=0)
        begin, grows_at_end = begin[:, :, 1:], begin[:, :, 1:] == begin[:, :, :-1]
        place = begin + grows_at_end * self.steps  # (A, L, k + 1, M)
        nowhere = self.coordinates.shape[-1] - 1
        place = place.masked_fill_(place >= num_inside, nowhere).long()
        found = self.coordinates.gather(-1, place.flatten(2)).view(place.shape)
        return place, (found - centers).square_()


def _axis_coordinates(anchor_centers: Sequence[Tensor], grid: AnchorGrid) -> Tensor:
    """x of the columns and y of the rows of each level in pixels, then infinity, (A, L, S + 1)."""
    longest = max(max(size) for size in grid.sizes)
    coordinates = anchor_centers[0].new_full((2, len(grid.sizes), longest + 1), torch.inf)
    for i, (level, (height, width)) in enumerate(zip(anchor_centers, grid.sizes)):
        coordinates[0, i, :width] = level[0, :width]
        coordinates[1, i, :height] = level[1, ::width]
    return coordinates


def _pack(squared_distance: Tensor, anchor_idxs: Tensor) -> Tensor:
    """Pack fp32 distances, none of them NaN, and the indices of their anchors."""
    bits = squared_distance.view(torch.int32).to(torch.int64)
    return bits.bitwise_left_shift_(_INDEX_BITS).add_(anchor_idxs)


def _smallest(packed: Tensor, topk: int) -> Tensor:
    """The nearest candidates along the last dimension, in order."""
    return packed.topk(topk, dim=-1, largest=False).values
