"""Measure a run: every number of its report."""

import math
from typing import Any

import numpy as np

from ..coco_evaluation import COCO_LIMIT, evaluate_boxes, unique_class_names
from .errors import measure_confusion, measure_errors
from .images import measure_images, measure_suspects
from .matches import IOU_THRESHOLDS, MatchedRun, match_run
from .metrics import Metrics, affordable_draws, compute_metrics, draw_images, interval, mean
from .operating_points import best_threshold, count, curve
from .score_quality import calibration_error, rank_correlation, reliability
from .tables import Detections, Truth

ALL = "all"  # key of what pools all classes
_MAX_CURVES = 20  # classes with a curve of their own


def measure(
    truth: Truth,
    detections: Detections,
    *,
    max_detections: int = COCO_LIMIT,
    seed: int = 0,
    num_draws: int = 1000,
) -> dict[str, Any]:
    """Measure detections on a COCO ground truth.

    Args:
        truth: COCO dict. An annotation may lack "area" (then width * height) and "iscrowd" (then
            0); ids of images may be texts. All its images count: leave out what the detector was
            never shown.
        detections: COCO results, {"image_id", "category_id", "bbox" (x, y, w, h in pixels),
            "score"} each; may be empty.
        max_detections: of an image and class that count, the best by score, at least COCO's 100.
        seed: of the bootstrap.
        num_draws: bootstrap draws of images; many detections get fewer, at least 200.

    Returns:
        The report's numbers, in plain Python types that json can write: AP, AR and errors in
        percent, scores and shares in [0, 1], boxes as (x, y, w, h) in pixels, None where a number
        is undefined. docs/report.md describes them.
    """
    limit = max(max_detections, COCO_LIMIT)
    run = match_run(truth, detections, max_detections=limit)
    names = class_names(truth)
    metrics = compute_metrics(run)
    num_draws = affordable_draws(num_draws, len(run.detections))
    drawn = compute_metrics(run, draw_images(len(truth["images"]), num_draws, seed))
    thresholds = measure_thresholds(run, names)
    overall = thresholds[ALL]
    score = overall["score"] if overall else 0.0
    return {
        "counts": measure_counts(run, names),
        "class_names": names,
        "draws": num_draws,
        "metrics": measure_metrics(metrics, drawn),
        "ap_by_class": measure_classes(run, names, metrics, drawn),
        "ap_by_iou": [
            {"iou": round(float(iou), 2), "AP": number(ap)}
            for iou, ap in zip(IOU_THRESHOLDS, mean(metrics.ap))
        ],
        "curves": measure_curves(run, names),
        "thresholds": thresholds,
        "confusion": measure_confusion(truth, detections, run, names, score),
        "errors": measure_errors(truth, detections, max_detections=limit),
        "calibration": measure_calibration(truth, detections, run, limit, metrics),
        "images": measure_images(truth, run, score),
        "suspects": measure_suspects(truth, run),
    }


def class_names(truth: Truth) -> list[str]:
    """Name the classes by ascending category id, each name once and none of them `ALL`."""
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    names = unique_class_names(categories)
    return [f"{name} ({c['id']})" if name == ALL else name for name, c in zip(names, categories)]


def measure_counts(run: MatchedRun, names: list[str]) -> dict[str, int]:
    """Count what is evaluated; detections beyond the limit of an image and class are left out."""
    num_crowds = int(run.objects.is_crowd.sum())
    return {
        "images": len(run.matches.num_objects),
        "objects": len(run.objects) - num_crowds,
        "crowds": num_crowds,
        "detections": len(run.detections),
        "classes": len(names),
    }


def measure_metrics(metrics: Metrics, drawn: Metrics) -> dict[str, dict[str, float | None]]:
    """COCO's twelve metrics with their intervals."""
    return {
        name: {"value": number(value), **_interval(value, drawn.by_name[name])}
        for name, value in metrics.by_name.items()
    }


def measure_classes(
    run: MatchedRun, names: list[str], metrics: Metrics, drawn: Metrics
) -> list[dict[str, Any]]:
    """AP of each class, with the interval of AP, and how much there is of the class."""
    num_objects = run.matches.num_objects.sum(axis=0)
    num_detections = np.bincount(run.detections.label, minlength=len(names))
    return [
        {
            "name": name,
            "AP": number(metrics.ap[:, k].mean()),
            "AP50": number(metrics.ap[0, k]),
            "AP75": number(metrics.ap[5, k]),
            **{f"AP{size}": number(ap[k]) for size, ap in metrics.ap_by_size.items()},
            "objects": int(num_objects[k]),
            "detections": int(num_detections[k]),
            **_interval(metrics.ap[:, k].mean(), drawn.ap[..., k].mean(axis=-1)),
        }
        for k, name in enumerate(names)
    ]


def measure_curves(run: MatchedRun, names: list[str]) -> dict[str, dict[str, Any]]:
    """Precision, recall and F1 over the score, of all classes and of the most frequent ones."""
    frequent = np.argsort(-run.matches.num_objects.sum(axis=0), kind="stable")[:_MAX_CURVES]
    classes = {names[k]: curve(count(run.matches, k)) for k in sorted(frequent.tolist())}
    return {ALL: curve(count(run.matches)), **classes}


def measure_thresholds(run: MatchedRun, names: list[str]) -> dict[str, dict[str, float] | None]:
    """The score threshold of the best F1, of all classes and of each."""
    classes = {name: best_threshold(count(run.matches, k)) for k, name in enumerate(names)}
    return {ALL: best_threshold(count(run.matches)), **classes}


def measure_calibration(
    truth: Truth, detections: Detections, run: MatchedRun, max_detections: int, metrics: Metrics
) -> dict[str, Any]:
    """How well scores predict IoU and being right, and the AP of a perfect ranking.

    The run's detections are ranked, which suppression has thinned out already.
    """
    matches, ap, ranked = run.matches, float(metrics.by_name["AP"]), ranked_by_iou(detections, run)
    best = evaluate_boxes(truth, ranked, max_detections=max_detections)["AP"]
    headroom = {"AP": ap, "AP_by_iou": best, "realised": ap / best if best else math.nan}
    return {
        "bins": reliability(matches),
        "error_iou": number(calibration_error(matches)),
        "error_correct": number(calibration_error(matches, of="correct")),
        "rank_correlation": number(rank_correlation(matches)),
        "headroom": {name: number(value) for name, value in headroom.items()},
    }


def ranked_by_iou(detections: Detections, run: MatchedRun) -> list[dict[str, Any]]:
    """Copy detections with their true IoU, with an object of their class, as the score.

    Args:
        detections: COCO results.
        run: matches of these; what its limit leaves out is left out here.
    """
    iou = dict(zip(run.detections.row.tolist(), run.matches.iou.tolist()))
    return [{**detections[row], "score": iou[row]} for row in sorted(iou)]


def number(value: float | np.ndarray) -> float | None:
    """Convert a NumPy number to a plain one, nan to None."""
    return None if np.isnan(value) else float(value)


def _interval(value: float | np.ndarray, draws: np.ndarray) -> dict[str, float | None]:
    low, high = interval(value, draws)
    return {"low": number(max(low, 0)), "high": number(min(high, 100))}
