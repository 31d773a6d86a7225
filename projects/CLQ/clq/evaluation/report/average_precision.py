"""AP and AR of matches, for all images or for many draws of them at once.

Letters: N images, K classes, D detections, T IoU thresholds, B draws of images, P = detections that
find an object or are ignored at some threshold, R = 101 points of recall.
"""

import numpy as np

from .matches import Matches

_RECALL_POINTS = np.linspace(0, 1, 101)  # (R,)
_CHUNK = 2**21  # numbers in memory at once, a few times


def average_precision(matches: Matches, weights: np.ndarray | None = None) -> np.ndarray:
    """COCO's AP of each threshold and class, in percent, nan where a class has no object.

    Args:
        matches: of a run.
        weights: how often each image counts, (N,), or (B, N) for many draws of images at once; by
            default each counts once.

    Returns:
        (T, K), or (B, T, K).
    """
    if weights is None:
        weights = np.ones(len(matches.num_objects), dtype=int)
    draws = np.atleast_2d(weights).astype(np.int32)
    num_objects = draws @ matches.num_objects  # (B, K)
    num_thresholds = matches.is_match.shape[1]
    ap = np.full((len(draws), num_thresholds, num_objects.shape[1]), np.nan)
    for k in np.flatnonzero(num_objects.any(axis=0)):
        one = _up_to_the_last_match(matches[matches.label == k])
        step = max(1, _CHUNK // (num_thresholds * 101 + one.is_match.size))
        for start in range(0, len(draws), step):
            chunk = slice(start, start + step)
            ap[chunk, :, k] = _class_ap(one, draws[chunk], num_objects[chunk, k])
    return ap.reshape(*weights.shape[:-1], *ap.shape[1:])


def _up_to_the_last_match(one: Matches) -> Matches:
    """Drop what precision and recall never see: the tail, and what is ignored throughout."""
    last = np.flatnonzero(one.is_match.any(axis=1))[-1:]
    rows = np.arange(last[0] + 1 if len(last) else 0)
    return one[rows[~one.is_ignored[rows].all(axis=1)]]


def _class_ap(one: Matches, draws: np.ndarray, num_objects: np.ndarray) -> np.ndarray:
    """AP of the matches of a class in draws (B, N) that hold ``num_objects`` (B,), as (B, T)."""
    special = (one.is_match | one.is_ignored).any(axis=1)
    weight = draws[:, one.image]  # (B, D)
    plain = np.cumsum(weight * ~special, axis=1, dtype=np.int32)[:, None, special]  # (B, 1, P)
    weight = weight[:, None, special]
    hits = np.cumsum(weight * one.is_match[special].T, axis=2, dtype=np.int32)  # (B, T, P)
    counted = np.cumsum(weight * ~one.is_ignored[special].T, axis=2, dtype=np.int32) + plain
    precision = hits / np.maximum(counted, 1)
    best = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    best = np.pad(best, ((0, 0), (0, 0), (0, 1)))  # 0 where a recall is never reached
    ap = np.take_along_axis(best, _first_reaching(hits, num_objects), axis=2).mean(axis=2)
    return np.where(num_objects[:, None] > 0, 100 * ap, np.nan)


def _first_reaching(hits: np.ndarray, num_objects: np.ndarray) -> np.ndarray:
    """Where rising hits (B, T, P) reach each point of recall, P where never, (B, T, R)."""
    num_draws, num_thresholds, num_points = hits.shape
    total = np.maximum(num_objects, 1)[:, None]
    needed = np.ceil(_RECALL_POINTS * total).astype(int)  # (B, R)
    # Division rounds: count as COCO does, which compares hits / objects with the point.
    needed -= (needed - 1) / total >= _RECALL_POINTS
    needed += needed / total < _RECALL_POINTS
    # One search in all rows, each of which is raised above the one before.
    step = total.max() + 2
    rows = np.arange(num_draws * num_thresholds).reshape(num_draws, num_thresholds, 1)
    padded = np.pad(hits, ((0, 0), (0, 0), (0, 1)), constant_values=step - 1)
    targets = np.maximum(needed, 0)[:, None] + rows * step
    first = np.searchsorted((padded + rows * step).ravel(), targets.ravel())
    return first.reshape(targets.shape) - rows * (num_points + 1)
