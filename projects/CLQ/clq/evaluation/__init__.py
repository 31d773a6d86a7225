"""COCO evaluation and results.json."""

from .coco_evaluation import CocoBoxEvaluator, evaluate_boxes
from .results import METRIC_NAMES, box_results_by_dataset, write_results

__all__ = [
    "METRIC_NAMES",
    "CocoBoxEvaluator",
    "box_results_by_dataset",
    "evaluate_boxes",
    "write_results",
]
