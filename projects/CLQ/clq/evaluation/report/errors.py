"""Errors of a run by kind: the confusion of classes, and TIDE's six kinds with the AP they cost."""

from typing import Any

import numpy as np

from ..coco_evaluation import run_coco_eval
from .matches import MatchedRun
from .tables import Detections, Truth

_TIDE_NAMES = {
    "classification": "Cls",
    "localization": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
_MAX_CLASSES = 30  # of a matrix that can be read
_NUM_PAIRS = 30


def measure_errors(truth: Truth, detections: Detections, *, max_detections: int) -> dict[str, Any]:
    """AP50 in percent, and what AP50 each kind of error costs: TIDE (arXiv:2008.08115).

    A kind costs what AP50 gains where all errors of this kind, and no others, are mended. With
    the number of detections of each kind, of objects for "missed".
    """
    coco_eval = run_coco_eval(truth, detections, max_detections=max_detections)
    tide = coco_eval.tide_errors(pos_thr=0.5, bg_thr=0.1)
    any_objects = not all(annotation.get("iscrowd") for annotation in truth["annotations"])
    return {
        "ap50": 100 * tide["ap_base"] if any_objects else None,
        "delta_ap": {name: 100 * tide["delta_ap"][key] for name, key in _TIDE_NAMES.items()},
        "counts": {name: tide["counts"][key] for name, key in _TIDE_NAMES.items()},
    }


def measure_confusion(
    truth: Truth, detections: Detections, run: MatchedRun, names: list[str], score: float
) -> dict[str, Any]:
    """Count which class is detected as which, for detections of at least a score.

    Each detection, highest score first, takes the object that it overlaps most at IoU 0.5,
    whatever its class. What is left is background: rows are classes of objects, columns of
    detections. Detections that COCO ignores, being in a crowd of their class, are left out.
    """
    is_kept = (run.detections.score >= score) & ~run.matches.is_ignored[:, 0]
    kept = [detections[row] for row in run.detections.row[is_kept].tolist()]
    coco_eval = run_coco_eval(truth, kept)
    matrix = coco_eval.confusion_matrix(iou_thr=0.5, max_det=max(len(kept), 1))["matrix"]
    confusion = {"score": score, "iou": 0.5, "matrix": matrix.astype(int).tolist()}
    if len(names) > _MAX_CLASSES:
        confusion["worst_pairs"] = _worst_pairs(matrix, [*names, "background"])
    return confusion


def _worst_pairs(matrix: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    counts = matrix.astype(int) * ~np.eye(len(matrix), dtype=bool)
    rows, columns = np.unravel_index(np.argsort(-counts, axis=None, kind="stable"), counts.shape)
    pairs = [
        {"truth": names[i], "predicted": names[j], "count": int(counts[i, j])}
        for i, j in zip(rows[:_NUM_PAIRS], columns[:_NUM_PAIRS])
    ]
    return [pair for pair in pairs if pair["count"]]
