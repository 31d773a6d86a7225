"""Headroom of a ranking: the AP of the same boxes in the best order there is."""

import math
from typing import Any

from ..coco_evaluation import evaluate_boxes
from .average_precision import average_precision
from .matches import MatchedRun
from .metrics import mean
from .tables import Detections, Truth


def ranked_by_iou(detections: Detections, run: MatchedRun) -> list[dict[str, Any]]:
    """Copy detections with their true IoU, with an object of their class, as the score.

    Args:
        detections: COCO results.
        run: matches of these; what its limit leaves out is left out here.
    """
    iou = dict(zip(run.detections.row.tolist(), run.matches.iou.tolist()))
    return [{**detections[row], "score": iou[row]} for row in sorted(iou)]


def measure_headroom(
    truth: Truth, detections: Detections, run: MatchedRun, *, max_detections: int
) -> dict[str, float]:
    """AP by the run's own scores and by true IoU, in percent, and the share that is realised.

    The run's detections are ranked, which suppression has thinned out already.
    """
    best = evaluate_boxes(truth, ranked_by_iou(detections, run), max_detections=max_detections)
    ap = float(mean(mean(average_precision(run.matches))))
    share = ap / best["AP"] if best["AP"] else math.nan
    return {"AP": ap, "AP_by_iou": best["AP"], "realised": share}
