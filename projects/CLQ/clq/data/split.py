"""Split a data set in two: classes in equal shares, near-identical images on one side.

Letters: N images, G groups of images, K classes.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..runtime.images import READ_ERRORS, turn_upright

_THUMBNAIL = 16  # pixels in width and height
_MIN_CORRELATION = 0.98  # of the thumbnails of near-identical images
_BLOCK = 2048  # images that are compared with all others at once
_MAX_CHANGES = 200  # groups that change sides after the first assignment
_MIN_GAIN = 1e-9


class NearIdentity(NamedTuple):
    """Groups of images that show the same.

    Attributes:
        groups: index of each image's group, from 0 without gaps, int64 (N,).
        num_unread: images that could not be read; each is a group of its own.
    """

    groups: np.ndarray
    num_unread: int


def group_near_identical(paths: Sequence[str]) -> NearIdentity:
    """Group images whose grey thumbnails correlate, over any number of images in between.

    Copies in another size, format, compression or brightness correlate, and so do neighbouring
    frames of a video whose camera hardly moves.

    Args:
        paths: N image files.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        thumbnails = list(pool.map(_thumbnail, paths))
    vectors = _normalized(thumbnails)
    parents = np.arange(len(paths))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    first: dict[bytes, int] = {}  # by the thumbnail, which is equal even where it is of one colour
    for index, thumbnail in enumerate(thumbnails):
        if thumbnail is not None:
            parents[index] = first.setdefault(thumbnail.tobytes(), index)
    for start in range(0, len(paths), _BLOCK):
        similar = vectors[start : start + _BLOCK] @ vectors.T > _MIN_CORRELATION
        for row, matches in enumerate(similar, start=start):
            columns = np.flatnonzero(matches[row + 1 :]) + row + 1
            for parent in np.unique(parents[columns]).tolist():
                low, high = sorted((root(parent), root(row)))
                parents[high] = low
    roots = [root(index) for index in range(len(paths))]
    groups = np.unique(roots, return_inverse=True)[1]
    return NearIdentity(groups, sum(thumbnail is None for thumbnail in thumbnails))


def _thumbnail(path: str) -> np.ndarray | None:
    """Return grey values of a small image, float32 (pixels,); None if it is unreadable."""
    try:
        if not os.path.isfile(path):
            return None
        with Image.open(path) as image:
            image.draft("L", (4 * _THUMBNAIL, 4 * _THUMBNAIL))  # which makes JPEG fast
            size = _THUMBNAIL, _THUMBNAIL
            grey = turn_upright(image).convert("F")
            return np.asarray(grey.resize(size, Image.Resampling.BOX)).ravel()
    except READ_ERRORS:
        return None


def _normalized(thumbnails: Sequence[np.ndarray | None]) -> np.ndarray:
    """Make vectors of mean 0 and norm 1, (N, pixels); 0 for one colour alone or no image."""
    blank = np.zeros(_THUMBNAIL**2, dtype=np.float32)
    grey = np.stack([blank if thumbnail is None else thumbnail for thumbnail in thumbnails])
    grey -= grey.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(grey, axis=1, keepdims=True)
    is_flat = norms < _THUMBNAIL  # less than one level of 255 in each pixel
    return np.where(is_flat, 0, grey / np.maximum(norms, 1))


def split_groups(
    counts: np.ndarray, groups: np.ndarray, share: float, *, seed: int = 0
) -> np.ndarray:
    """Choose the groups of the smaller side, by iterative stratification.

    Class by class, the one with the fewest groups left first, each of its groups goes to the side
    that lacks most of the class's share (Sechidis et al., On the Stratification of Multi-Label
    Data, 2011). A class of two groups or more gets objects on both sides wherever that is possible
    for all; images without objects count as a class.

    Args:
        counts: objects of each image and class, int64 (N, K).
        groups: index of each image's group, int64 (N,).
        share: of objects and images on the chosen side, between 0 and 1.
        seed: of the order of the groups.

    Returns:
        Mask of the chosen images, bool (N,).

    Raises:
        ValueError: there are fewer than two groups.
    """
    num_groups = int(groups.max(initial=-1)) + 1
    if num_groups < 2:
        raise ValueError(
            "all images are near-identical, so that they would be on one side; --no-compare splits "
            "them one by one."
        )
    is_empty = counts.sum(axis=1, keepdims=True) == 0
    columns = np.concatenate((counts, is_empty, np.ones_like(is_empty)), axis=1)
    totals = np.zeros((num_groups, columns.shape[1]))
    np.add.at(totals, groups, columns)
    order = np.random.default_rng(seed).permutation(num_groups)
    chosen = np.zeros(num_groups, dtype=bool)
    chosen[order] = _stratify(totals[order], share)
    _improve(totals, chosen, share)
    return chosen[groups]


def _stratify(totals: np.ndarray, share: float) -> np.ndarray:
    """Assign groups in their order; ``totals`` (G, columns), whose last column counts images."""
    lacking = np.outer((1 - share, share), totals.sum(axis=0))  # (2, columns)
    sides = np.full(len(totals), -1)
    left = (totals[:, :-1] > 0).sum(axis=0)  # groups that are not assigned, of each class
    while left.any():
        k = int(np.where(left > 0, left, len(totals) + 1).argmin())
        members = np.flatnonzero((totals[:, k] > 0) & (sides < 0))
        members = members[np.argsort(-totals[members, k], kind="stable")]
        for group in members:
            # Of equal lack, the side that lacks more images, then the larger one.
            side = max((0, 1), key=lambda s: (lacking[s, k], lacking[s, -1], -s))
            sides[group] = side
            lacking[side] -= totals[group]
            left -= totals[group, :-1] > 0
    return sides == 1


def _improve(totals: np.ndarray, chosen: np.ndarray, share: float) -> None:
    """Change the side of one group at a time, while the best such change helps; in place.

    It helps if fewer columns are on one side, or as many whose squared errors in share are smaller.
    A column of one group can't be on both sides.
    """
    sums, has = totals.sum(axis=0), totals > 0
    num_groups = has.sum(axis=0)
    kept = num_groups > 1
    step = np.divide(totals, sums, out=np.zeros_like(totals), where=kept)  # (G, columns)
    for _ in range(_MAX_CHANGES):
        sign = np.where(chosen, -1, 1)[:, None]
        count = has[chosen].sum(axis=0)
        error = step[chosen].sum(axis=0) - np.where(kept, share, 0)
        counts = np.concatenate((count[None], count + sign * has))  # row 0 changes nothing
        errors = np.concatenate((error[None], error + sign * step))
        num_one_sided = (kept & ((counts == 0) | (counts == num_groups))).sum(axis=1)
        costs = num_one_sided * (1 + len(sums)) + (errors**2).sum(axis=1)
        best = int(costs.argmin())
        if costs[best] > costs[0] - _MIN_GAIN:
            return
        chosen[best - 1] ^= True
