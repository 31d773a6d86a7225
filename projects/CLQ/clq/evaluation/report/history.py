"""Read what a training run wrote down about its course."""

import json
import os
from collections.abc import Mapping
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


def accuracy_prefixes(history: History) -> list[str]:
    """Return what stands before "bbox/AP" in the metrics: nothing, or data sets as "val/"."""
    names = dict.fromkeys(name for values in history.values() for name in values)
    return [name.removesuffix("bbox/AP") for name in names if name.endswith("bbox/AP")]
