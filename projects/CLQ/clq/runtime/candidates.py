"""Candidates for NMS, from what the graph of an exported detector gives.

Letters: R rows (anchors that the graph chose, level by level), K classes.
"""

from collections.abc import Sequence

import numpy as np

from .detections import ImageDetections
from .metadata import Settings


def choose_candidates(
    boxes: np.ndarray,
    scores: np.ndarray,
    settings: Settings,
    level_sizes: Sequence[int],
    image_size: tuple[int, int],
) -> ImageDetections:
    """Choose candidates as :mod:`clq.modeling.candidates` does, and clip them to the image.

    Args:
        boxes: (R, 4), xyxy in pixels of the network's input.
        scores: (R, K), joint scores.
        settings: threshold, rule and the most of a level.
        level_sizes: rows of each level.
        image_size: height and width of the image in it.

    Returns:
        Candidates, level by level and best first.
    """
    ends = np.cumsum(level_sizes)
    rows, classes = np.nonzero(scores > settings.score_threshold)
    levels = np.searchsorted(ends, rows, side="right")
    if settings.candidate_rule == "anchors":  # of each level, the best of which come first
        is_among = rows - (ends - level_sizes)[levels] < settings.topk
        rows, classes, levels = rows[is_among], classes[is_among], levels[is_among]
    found = scores[rows, classes]
    order = np.lexsort((classes, rows, -found, levels))
    if settings.candidate_rule == "pairs":
        levels = levels[order]
        ranks = np.arange(len(levels)) - np.searchsorted(levels, levels)
        order = order[ranks < settings.topk]
    rows, classes = rows[order], classes[order]
    return ImageDetections(image_size, boxes[rows], found[order], classes).clipped()
