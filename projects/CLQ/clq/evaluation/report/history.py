"""Read what a training run wrote down about its course."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

History = Mapping[int, Mapping[str, float]]

LOSS_NAMES = ("total_loss", "loss_cls", "loss_box_reg", "loss_dfl", "loss_quality")


def read_history(metrics_file: str | os.PathLike[str]) -> dict[int, dict[str, float]]:
    """Read metrics.json as {iteration: {name: value}}, by ascending iteration.

    A run that is resumed, or started again in the same folder, appends to the file. From the
    iteration on where it takes up, its values replace all that earlier runs wrote. A last line
    that a killed run left unfinished is skipped.
    """
    history: dict[int, dict[str, float]] = {}
    last_step = -1
    for line in Path(metrics_file).read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        iteration = record["iteration"]
        # Evaluations may be written after losses of a later iteration; losses come in order.
        if "total_loss" in record:
            if iteration <= last_step:
                history = {i: values for i, values in history.items() if i < iteration}
            last_step = iteration
        history.setdefault(iteration, {}).update(record)
    return dict(sorted(history.items()))


def series(history: History, name: str) -> tuple[list[int], list[float]]:
    """Return the iterations at which a metric was written, and its values there."""
    points = [(i, values[name]) for i, values in history.items() if name in values]
    return [i for i, _ in points], [value for _, value in points]


def metric_key(name: str, dataset: str, datasets: Sequence[str]) -> str:
    """Return the name in metrics.json of a metric such as AP; that of a single set has no prefix.

    Args:
        name: of `METRIC_NAMES`.
        dataset: one of the next.
        datasets: `DATASETS.TEST`.
    """
    return f"bbox/{name}" if len(datasets) == 1 else f"{dataset}/bbox/{name}"
