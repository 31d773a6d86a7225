"""Compare two runs on the same ground truth: every number of their common report.

The intervals are not those of ``hotcoco.compare``, which counts an image once however often it is
drawn, so that its intervals are too narrow by a quarter (hotcoco 1.3).
"""

from typing import Any

import numpy as np

from ..coco_evaluation import COCO_LIMIT
from ..results import METRIC_NAMES
from .image_losses import CANDIDATES, approximate_losses, exact_losses
from .images import image_entry
from .matches import Matches, match_run
from .measure import class_names, number
from .metrics import affordable_draws, compute_metrics, draw_images, interval
from .tables import Detections, Truth

_NUM_IMAGES = 12


def compare(
    truth: Truth,
    detections_a: Detections,
    detections_b: Detections,
    *,
    max_detections: int = COCO_LIMIT,
    seed: int = 0,
    num_draws: int = 1000,
) -> dict[str, Any]:
    """Compare the detections of two runs on a COCO ground truth.

    The intervals are of a paired bootstrap: the same images are drawn for both runs, so that what
    makes an image hard for both does not widen them. Arguments are those of `measure`.

    Returns:
        The numbers in plain Python types; "delta" is b minus a. Under "metrics" by name, and under
        "ap_by_class" for each class, {"a", "b", "delta", "low", "high"} in percent and points.
        Under "images" those whose loss (the AP of all others minus AP) differs most.
    """
    limit = max(max_detections, COCO_LIMIT)
    run_a, run_b = (
        match_run(truth, detections, max_detections=limit)
        for detections in (detections_a, detections_b)
    )
    names = class_names(truth)
    num_draws = affordable_draws(num_draws, max(len(run_a.detections), len(run_b.detections)))
    weights = draw_images(len(truth["images"]), num_draws, seed)
    computed = [
        compute_metrics(run, images) for images in (None, weights) for run in (run_a, run_b)
    ]
    return {
        "class_names": names,
        "draws": num_draws,
        "metrics": {
            name: _difference(*(metrics.by_name[name] for metrics in computed))
            for name in METRIC_NAMES
        },
        "ap_by_class": [
            {
                "name": name,
                **_difference(*(metrics.ap[..., k].mean(axis=-1) for metrics in computed)),
            }
            for k, name in enumerate(names)
        ],
        "images": _changed_images(truth, run_a.matches, run_b.matches),
    }


def _difference(
    a: np.ndarray, b: np.ndarray, drawn_a: np.ndarray, drawn_b: np.ndarray
) -> dict[str, float | None]:
    """A metric of both runs, and b minus a with its interval from draws of the same images."""
    low, high = interval(b - a, drawn_b - drawn_a)
    values = {"a": a, "b": b, "delta": b - a, "low": low, "high": high}
    return {name: number(value) for name, value in values.items()}


def _changed_images(truth: Truth, a: Matches, b: Matches) -> list[dict[str, Any]]:
    change = np.abs(approximate_losses(b) - approximate_losses(a))
    candidates = np.argsort(-change, kind="stable")[: _NUM_IMAGES * CANDIDATES]
    losses_a, losses_b = (exact_losses(matches, candidates) for matches in (a, b))
    deltas = losses_b - losses_a
    return [
        {
            **image_entry(truth, int(candidates[i])),
            "loss_a": float(losses_a[i]),
            "loss_b": float(losses_b[i]),
            "delta": float(deltas[i]),
        }
        for i in np.argsort(-np.abs(deltas), kind="stable")[:_NUM_IMAGES]  # nan last
        if np.abs(deltas[i]) > 0
    ]
