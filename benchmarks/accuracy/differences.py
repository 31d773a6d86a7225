"""The difference in AP between two members, with a paired bootstrap interval over images."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hotcoco

from clq.evaluation.coco_evaluation import run_coco_eval

METRICS = ("AP", "AP50", "AP75")
_RESAMPLES = 1000

Truth = Mapping[str, Any]
Detections = Sequence[Mapping[str, Any]]


class Difference(NamedTuple):
    """Member minus baseline, in percent.

    Attributes:
        value: mean over the seeds.
        low: 2.5 % quantile of the mean over resampled images.
        high: 97.5 % quantile.
    """

    value: float
    low: float
    high: float


def bootstrap_differences(
    truth: Truth, baseline: Sequence[Detections], member: Sequence[Detections]
) -> dict[str, Difference]:
    """Compare two members that were trained on the same seeds, in each of ``METRICS``.

    The seeds are put side by side as if each had classes of its own on the same images: the class
    "RBC" of seed 0, of seed 1, and so on. COCO's mean over classes is then the mean over seeds and
    classes, and drawing an image draws it for both members and for every seed. So the interval
    says what other images of the same kind could change about these trained models. What another
    seed could change it does not say; for that see the differences of the single seeds.

    Args:
        truth: COCO json of the images.
        baseline: COCO results of each seed, boxes as (x, y, w, h) in pixels.
        member: likewise, in the same order of seeds.
    """
    content = side_by_side(truth, len(baseline))
    first, second = (
        run_coco_eval(content, _detections_side_by_side(truth, runs)) for runs in (baseline, member)
    )
    compared = hotcoco.compare(first, second, n_bootstrap=_RESAMPLES, seed=0)
    found = {}
    for name in METRICS:
        interval = compared["ci"][name]
        fractions = compared["deltas"][name], interval["lower"], interval["upper"]
        found[name] = Difference(*(100 * fraction for fraction in fractions))
    return found


def side_by_side(truth: Truth, copies: int) -> dict[str, Any]:
    """The ground truth with every class and every annotation as often as there are seeds."""
    step = _category_step(truth)
    seeds = range(copies)
    categories = [
        {**category, "id": category["id"] + s * step, "name": f"{category['name']} {s}"}
        for s in seeds
        for category in truth["categories"]
    ]
    annotations = [
        {**annotation, "category_id": annotation["category_id"] + s * step}
        for s in seeds
        for annotation in truth["annotations"]
    ]
    return {**truth, "categories": categories, "annotations": annotations}


def _detections_side_by_side(truth: Truth, runs: Sequence[Detections]) -> list[dict[str, Any]]:
    step = _category_step(truth)
    return [
        {**detection, "category_id": detection["category_id"] + s * step}
        for s, detections in enumerate(runs)
        for detection in detections
    ]


def _category_step(truth: Truth) -> int:
    return max(category["id"] for category in truth["categories"]) + 1
