"""AP of matches, for all images or for many draws of them at once.

Letters: N images, K classes, D detections, T IoU thresholds, B draws of images, P = detections that
find an object, R = 101 points of recall.
"""

import numpy as np

from .matches import Matches

_RECALL_POINTS = np.linspace(0, 1, 101)  # (R,)
_CHUNK = 2**19  # numbers in memory at once, a few times


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
        step = max(1, _CHUNK // (len(_RECALL_POINTS) + len(one.score)))
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
    is_mixed = one.is_ignored.any(axis=1)  # counts at some thresholds only
    weight = draws[:, one.image]  # (B, D)
    always = np.cumsum(weight * ~is_mixed, axis=1, dtype=np.int32)
    mixed = weight[:, is_mixed]
    num_mixed = np.cumsum(is_mixed)
    needed = _needed_hits(num_objects)
    ap = np.empty((len(draws), one.is_match.shape[1]))
    for t, (is_match, is_ignored) in enumerate(zip(one.is_match.T, one.is_ignored.T)):
        rows = np.flatnonzero(is_match)
        hits = np.cumsum(weight[:, rows], axis=1, dtype=np.int32)  # (B, P)
        at_times = np.cumsum(mixed * ~is_ignored[is_mixed], axis=1, dtype=np.int32)
        counted = always[:, rows] + np.pad(at_times, ((0, 0), (1, 0)))[:, num_mixed[rows]]
        ap[:, t] = _mean_precision(hits, hits / np.maximum(counted, 1), needed)
    return np.where(num_objects[:, None] > 0, 100 * ap, np.nan)


def _needed_hits(num_objects: np.ndarray) -> np.ndarray:
    """How many of the objects (B,) must be found to reach each point of recall, (B, R)."""
    total = np.maximum(num_objects, 1)[:, None]
    needed = np.ceil(_RECALL_POINTS * total).astype(int)
    # Division rounds: compare as COCO does, hits / objects with the point.
    needed -= (needed - 1) / total >= _RECALL_POINTS
    needed += needed / total < _RECALL_POINTS
    return np.maximum(needed, 0)


def _mean_precision(hits: np.ndarray, precision: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Mean of the best precision at each point of recall or a higher one, (B,).

    Args:
        hits: objects that are found, rising, (B, P).
        precision: there, (B, P).
        needed: hits at each point of recall, (B, R); precision is 0 where they are never reached.
    """
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))
    # One search in all rows, each of which is raised above the one before.
    beyond = max(needed.max(), hits.max(initial=0)) + 1
    raised = np.arange(len(hits))[:, None] * (beyond + 1)
    padded = np.pad(hits, ((0, 0), (0, 1)), constant_values=beyond) + raised
    first = np.searchsorted(padded.ravel(), (needed + raised).ravel())
    return best.ravel()[first].reshape(needed.shape).mean(axis=1)
