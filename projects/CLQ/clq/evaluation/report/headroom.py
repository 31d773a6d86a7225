"""Headroom of a ranking: the AP of the same boxes in the best order there is."""

from typing import Any

from .matches import MatchedRun
from .tables import Detections


def ranked_by_iou(detections: Detections, run: MatchedRun) -> list[dict[str, Any]]:
    """Copy detections with their true IoU, with an object of their class, as the score.

    Args:
        detections: COCO results.
        run: matches of these; what its limit leaves out is left out here.
    """
    iou = dict(zip(run.detections.row.tolist(), run.matches.iou.tolist()))
    return [{**detections[row], "score": iou[row]} for row in sorted(iou)]
