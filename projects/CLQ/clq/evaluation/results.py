"""Write results.json, the metrics of a run."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.atomic_write import write_atomically

# The order of `COCOeval.stats` for boxes.
METRIC_NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
CLASS_AP_PREFIX = "AP-"


def class_aps(metrics: Mapping[str, float]) -> dict[str, float]:
    """Select the "AP-<class name>" entries of the metrics, as {class name: AP}."""
    return {
        name.removeprefix(CLASS_AP_PREFIX): value
        for name, value in metrics.items()
        if name.startswith(CLASS_AP_PREFIX)
    }


def box_results_by_dataset(
    results: Mapping[str, Any], dataset_names: Sequence[str]
) -> dict[str, Mapping[str, float]]:
    """Add the name of a single data set, which `DefaultTrainer.test` drops.

    Args:
        results: {data set: {"bbox": metrics}}, or {"bbox": metrics} of a single data set.
        dataset_names: `DATASETS.TEST`.

    Returns:
        {data set: box metrics}; the metrics are empty if there are no annotations.
    """
    if len(dataset_names) == 1:
        results = {dataset_names[0]: results}
    return {name: results[name].get("bbox", {}) for name in dataset_names}


def write_results(
    path: str | os.PathLike[str],
    results_by_dataset: Mapping[str, Mapping[str, float]],
    **extra: Any,
) -> None:
    """Write results.json atomically.

    Args:
        path: file to write; its folder is created.
        results_by_dataset: metrics of `CocoBoxEvaluator` by data set, in percent. The twelve
            `METRIC_NAMES` are written, null if missing or NaN, and the class APs under
            "per_class".
        extra: further top-level entries, such as seed=0; NaN and infinity become null.
    """
    clashes = sorted(set(results_by_dataset) & set(extra))
    if clashes:
        raise ValueError(f"results.json cannot hold both a data set and a value named {clashes}.")
    content = {
        dataset: {
            **{name: metrics.get(name) for name in METRIC_NAMES},
            "per_class": class_aps(metrics),
        }
        for dataset, metrics in results_by_dataset.items()
    }
    text = json.dumps(_finite_or_none({**content, **extra}), indent=2, allow_nan=False)
    write_atomically(Path(path), f"{text}\n".encode())


def _finite_or_none(value: Any) -> Any:
    """Copy plain Python values, with None for every float that JSON cannot express."""
    if isinstance(value, Mapping):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(item) for item in value]
    if hasattr(value, "item"):  # NumPy or torch scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
