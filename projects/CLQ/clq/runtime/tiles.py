"""Overlapping tiles of a large image, and detections merged across their borders.

Needs NumPy alone. Letters: H, W height and width of an image in pixels, T tiles, P detections.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .detections import ImageDetections, common_area

WHOLE = -1  # in place of a tile's index: seen in the whole image

# How near to a border of its tile a box counts as cut: a share of the tile's side, and in pixels.
_CUT_MARGIN, _LEAST_CUT_MARGIN = 0.02, 4.0
# A box that takes the place of another must have at least this share of its score.
_MIN_SCORE_SHARE = 0.5
_OPPOSITE = [2, 3, 0, 1]  # sides are left, top, right, bottom, as in a box
_MAX_PAIRS = 2_000_000  # that are compared at once


def check_tile(size: object) -> None:
    """
    Raises:
        ValueError: tiles can't have that side in pixels.
    """
    if type(size) is not int or not (size == 0 or 32 <= size < 1_000_000):
        raise ValueError(
            f"TEST.TILE is {size!r}; it must be a whole number of pixels, at least 32, or 0 for "
            "no tiles."
        )


def check_overlap(overlap: object) -> None:
    """
    Raises:
        ValueError: tiles can't overlap by that share of their side.
    """
    if not isinstance(overlap, (int, float)) or not 0 <= overlap <= 0.9:
        raise ValueError(f"TEST.TILE_OVERLAP is {overlap!r:.80}; it must lie in [0, 0.9].")


def tile_boxes(size: tuple[int, int], side: int, overlap: float) -> np.ndarray:
    """Cut an image into tiles of equal size, row by row.

    They are evenly spaced, so that neighbours overlap by ``overlap`` or more.

    Args:
        size: height and width of the image in pixels.
        side: of a tile in pixels, at least 1.
        overlap: share of its side that a tile has in common with the next, from 0 to below 1.

    Returns:
        (T, 4) int64, xyxy. A side of the image that is no longer than a tile is not cut.
    """
    y, x = (_starts(length, side, overlap) for length in size)
    x0, y0 = np.tile(x, len(y)), np.repeat(y, len(x))
    x1, y1 = np.minimum(x0 + side, size[1]), np.minimum(y0 + side, size[0])
    return np.stack((x0, y0, x1, y1), axis=1)


def _starts(length: int, side: int, overlap: float) -> np.ndarray:
    """Where the tiles of a row start in it."""
    last = max(length - side, 0)
    num_steps = -(-last // max(side - int(side * overlap), 1))
    return np.linspace(0, last, num_steps + 1).round().astype(np.int64)


@dataclass(frozen=True)
class TiledDetections(ImageDetections):
    """Detections in the tiles of an image, in its pixels.

    Attributes:
        tile_of: (P,) int, index of the tile that a detection was seen in, or :data:`WHOLE`.
    """

    tile_of: np.ndarray

    @classmethod
    def of(
        cls, found: ImageDetections, tile: int, corner: np.ndarray, size: tuple[int, int]
    ) -> "TiledDetections":
        """Move the detections of a tile to its place in the image.

        Args:
            found: in pixels of the tile.
            tile: its index, or :data:`WHOLE`.
            corner: x and y of the tile in the image.
            size: height and width of the image.
        """
        boxes = found.boxes + np.tile(corner, 2).astype(np.float32)
        return cls(size, boxes, found.scores, found.classes, np.full(len(found), tile))


def merge_tiles(found: TiledDetections, tiles: np.ndarray, iou_threshold: float) -> TiledDetections:
    """Make one detection of each object that several tiles show.

    Boxes count as cut that end at a border of their tile inside the image. In each class:

    1. A cut box goes if another tile's box, which is not cut on the opposite side, crosses that
       border, covers most of it and is not much less sure.
    2. Cut boxes that meet at a border from its two sides, as far as they extend along it, become
       one box around them, with the best of their scores.
    3. Boxes of different tiles are suppressed by NMS.

    Boxes of one tile never suppress one another, so that away from the borders each tile's
    detections stay as they are.

    Args:
        found: P detections.
        tiles: (T, 4), as of :func:`tile_boxes`.
        iou_threshold: IoU above which NMS suppresses; the covered share in 1, and the common share
            of the shorter of two extents in 2, must be above it too.

    Returns:
        The detections that are left, best first. A box of several tiles has an index above theirs.
    """
    is_cut = _cut_sides(found, tiles)
    is_whole = ~_seen_better_elsewhere(found, tiles, is_cut, iou_threshold)
    found, is_cut = found.select(is_whole), is_cut[is_whole]
    return _suppress(_join_parts(found, tiles, is_cut, iou_threshold), iou_threshold)


def _cut_sides(found: TiledDetections, tiles: np.ndarray) -> np.ndarray:
    """Tell at which sides (left, top, right, bottom) boxes are cut by their tile, (P, 4)."""
    height, width = found.image_size
    is_inside = tiles != [0, 0, width, height]  # (T, 4)
    is_near = abs(found.boxes - tiles[found.tile_of]) <= _margin(tiles)
    return is_near & is_inside[found.tile_of] & (found.tile_of != WHOLE)[:, None]


def _seen_better_elsewhere(
    found: TiledDetections, tiles: np.ndarray, is_cut: np.ndarray, threshold: float
) -> np.ndarray:
    """Tell which cut boxes another tile shows with more of the object, (P,)."""
    result = np.zeros(len(found), dtype=bool)
    for pairs in _neighbours(found):
        i, j = np.concatenate((pairs, pairs[::-1]), axis=1)
        is_part = is_cut[i].any(axis=1)
        i, j = i[is_part], j[is_part]
        has_fewer_cuts = (is_cut[j] <= is_cut[i]).all(axis=1) & (is_cut[j] < is_cut[i]).any(axis=1)
        # A box of the whole image has no cut, so that the last tile in its place does no harm.
        one, other = tiles[found.tile_of[i]], tiles[found.tile_of[j]]
        is_in_line = (one[:, 0::2] == other[:, 0::2]).all(axis=1)
        is_in_line |= (one[:, 1::2] == other[:, 1::2]).all(axis=1)
        beyond = (found.boxes[j] - one) * [-1, -1, 1, 1]  # in pixels, (Q, 4)
        is_across = ((beyond > 0) & is_cut[i] & ~is_cut[j][:, _OPPOSITE]).any(axis=1)
        covered = common_area(found.boxes[i], found.boxes[j])
        is_covered = covered > threshold * _area(found.boxes[i])
        is_sure = found.scores[j] >= _MIN_SCORE_SHARE * found.scores[i]
        result[i[is_across & is_covered & is_sure & (is_in_line | has_fewer_cuts)]] = True
    return result


def _margin(tiles: np.ndarray) -> float:
    """How near to its tile's border a cut box ends, in pixels; tiles are of equal size."""
    return max(_CUT_MARGIN * (tiles[0, 2:] - tiles[0, :2]).max(), _LEAST_CUT_MARGIN)


def _join_parts(
    found: TiledDetections, tiles: np.ndarray, is_cut: np.ndarray, threshold: float
) -> TiledDetections:
    """Replace boxes that meet at borders by the box around them."""
    groups = np.arange(len(found))
    for i, j in _meeting_parts(found, tiles, is_cut, threshold):
        groups[groups == groups[j]] = groups[i]
    boxes, scores = found.boxes.copy(), found.scores.copy()
    np.minimum.at(boxes[:, :2], groups, found.boxes[:, :2])
    np.maximum.at(boxes[:, 2:], groups, found.boxes[:, 2:])
    np.maximum.at(scores, groups, found.scores)
    is_joined = np.bincount(groups, minlength=len(groups)) > 1
    tile_of = np.where(is_joined, len(tiles) + np.arange(len(groups)), found.tile_of)
    joined = replace(found, boxes=boxes, scores=scores, tile_of=tile_of)
    return joined.select(np.unique(groups))


def _meeting_parts(
    found: TiledDetections, tiles: np.ndarray, is_cut: np.ndarray, threshold: float
) -> Iterator[tuple[int, int]]:
    """Yield pairs of boxes that, of two tiles, are each other's best continuation."""
    parts = np.flatnonzero(is_cut.any(axis=1))
    cut, is_cut = found.select(parts), is_cut[parts]
    gap = 2 * _margin(tiles)
    for axis in (0, 1):  # to the right, and downwards
        along = [1 - axis, 3 - axis]
        best: dict[tuple[int, int], tuple[float, int]] = {}  # by box and the other's tile
        for pairs in _neighbours(cut, gap):
            i, j = np.concatenate((pairs, pairs[::-1]), axis=1)
            one, other = tiles[cut.tile_of[i]], tiles[cut.tile_of[j]]
            is_next = (one[:, along] == other[:, along]).all(axis=1)
            is_next &= (one[:, axis] < other[:, axis]) & (other[:, axis] <= one[:, axis + 2])
            is_next &= is_cut[i, axis + 2] & is_cut[j, axis]
            i, j = i[is_next], j[is_next]
            common, shorter, both = _extents(cut.boxes[i][:, along], cut.boxes[j][:, along])
            meets = common > threshold * shorter
            rows = zip(i[meets].tolist(), j[meets].tolist(), (common / both)[meets].tolist())
            for first, second, iou in rows:
                for box, partner in ((first, second), (second, first)):
                    key = box, int(cut.tile_of[partner])
                    best[key] = max(best.get(key, (0.0, partner)), (iou, partner))
        for (first, _), (_, second) in best.items():
            if first < second and best[second, int(cut.tile_of[first])][1] == first:
                yield int(parts[first]), int(parts[second])


def _suppress(found: TiledDetections, threshold: float) -> TiledDetections:
    """Suppress boxes by better ones of the same class in other tiles; returns best first."""
    found = found.select(np.argsort(-found.scores, kind="stable"))
    conflicts = [np.empty((2, 0), dtype=np.int64)]
    for pairs in _neighbours(found):
        one, other = found.boxes[pairs[0]], found.boxes[pairs[1]]
        common = common_area(one, other)
        is_same = common > threshold * (_area(one) + _area(other) - common)
        conflicts.append(np.sort(pairs[:, is_same], axis=0))
    is_kept = np.ones(len(found), dtype=bool)
    better, worse = np.concatenate(conflicts, axis=1)
    for k in np.lexsort((worse, better)):
        if is_kept[better[k]]:
            is_kept[worse[k]] = False
    return found.select(is_kept)


def _neighbours(found: TiledDetections, gap: float = 0.0) -> Iterator[np.ndarray]:
    """Yield pairs of detections, (2, Q) each, of one class and different tiles.

    Every pair comes once whose boxes, in both directions, overlap or lie no more than ``gap``
    pixels apart.
    """
    order = np.lexsort((found.boxes[:, 0], found.classes))
    starts = np.flatnonzero(np.diff(found.classes[order], prepend=-1))
    for rows in np.split(order, starts[1:]):  # of one class, from left to right
        x0, x1 = found.boxes[rows, 0], found.boxes[rows, 2]
        here = np.arange(len(rows))
        counts = np.searchsorted(x0, x1 + gap, side="right") - here - 1
        counts = np.maximum(counts, 0)
        for part in np.split(here, np.flatnonzero(np.diff(counts.cumsum() // _MAX_PAIRS)) + 1):
            first = np.repeat(part, counts[part])
            ends = counts[part].cumsum()
            second = (
                first + 1 + np.arange(len(first)) - np.repeat(ends - counts[part], counts[part])
            )
            i, j = rows[first], rows[second]
            is_pair = found.tile_of[i] != found.tile_of[j]
            is_pair &= found.boxes[i, 1] <= found.boxes[j, 3] + gap
            is_pair &= found.boxes[j, 1] <= found.boxes[i, 3] + gap
            yield np.stack((i[is_pair], j[is_pair]))


def _extents(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length that intervals (Q, 2) have in common, of the shorter one, and of both, (Q,) each."""
    common = np.minimum(one[:, 1], other[:, 1]) - np.maximum(one[:, 0], other[:, 0])
    shorter = np.minimum(one[:, 1] - one[:, 0], other[:, 1] - other[:, 0])
    both = np.maximum(one[:, 1], other[:, 1]) - np.minimum(one[:, 0], other[:, 0])
    return common, shorter, np.maximum(both, np.finfo(np.float32).tiny)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
