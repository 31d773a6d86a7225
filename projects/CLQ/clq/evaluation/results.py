"""results.json: the accuracy of a run, for programs and for people."""

from __future__ import annotations

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
    """{class name: AP} of the metrics' "AP-<class name>" entries, in their order."""
    return {
        name.removeprefix(CLASS_AP_PREFIX): value
        for name, value in metrics.items()
        if name.startswith(CLASS_AP_PREFIX)
    }


def box_results_by_dataset(
    results: Mapping[str, Any], dataset_names: Sequence[str]
) -> dict[str, Mapping[str, float]]:
    """Undo `DefaultTrainer.test`, which drops the data set's name when there is only one.

    Args:
        results: {data set: {"bbox": metrics}}, or {"bbox": metrics} of a single data set.
        dataset_names: names in the order of `DATASETS.TEST`.

    Returns:
        {data set: box metrics}; empty metrics where a data set has no annotations.
    """
    if len(dataset_names) == 1:
        results = {dataset_names[0]: results}
    return {name: results[name].get("bbox", {}) for name in dataset_names}


def write_results(
    path: str | os.PathLike[str],
    results_by_dataset: Mapping[str, Mapping[str, float]],
    **extra: Any,
) -> None:
    """Write results.json in one step: a reader sees the old file or the new one, never a half.

    Args:
        path: the file to write; its folder is made if need be.
        results_by_dataset: per data set the metrics of `CocoBoxEvaluator`, in percent. Of these
            the twelve `METRIC_NAMES` are written, null where absent or nan, and the class APs
            ("AP-<class>") under "per_class".
        extra: further top-level entries, such as seed=0; a nan or infinity becomes null.
    """
    clashes = sorted(set(results_by_dataset) & set(extra))
    if clashes:
        raise ValueError(f"results.json cannot hold both a data set and a value named {clashes}.")
    content = {name: _dataset_entry(metrics) for name, metrics in results_by_dataset.items()}
    text = json.dumps(_finite_or_none({**content, **extra}), indent=2, allow_nan=False)
    write_atomically(Path(path), f"{text}\n".encode())


def _dataset_entry(metrics: Mapping[str, float]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: metrics.get(name) for name in METRIC_NAMES}
    entry["per_class"] = class_aps(metrics)
    return entry


def _finite_or_none(value: Any) -> Any:
    """A copy of plain Python values in which every float that JSON cannot express is None."""
    if isinstance(value, Mapping):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(item) for item in value]
    if hasattr(value, "item"):  # a scalar of NumPy or torch
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
