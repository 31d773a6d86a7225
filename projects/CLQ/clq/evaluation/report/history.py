"""Read what a training run wrote down about its course."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

History = Sequence[Mapping[str, float]]  # each with its "iteration"

LOSS_NAMES = ("total_loss", "loss_cls", "loss_box_reg", "loss_dfl", "loss_quality")


def read_history(metrics_file: Path) -> History:
    """Read metrics.json, one record a line.

    Raises:
        OSError: it can't be read.
        ValueError: a line is no json.
    """
    try:
        return [json.loads(line) for line in metrics_file.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{metrics_file} is damaged ({error}); remove or mend it.") from error


def series(history: History, name: str) -> tuple[list[float], list[float]]:
    """Return iterations and values of a metric where it is defined, in order.

    An evaluation is written after later losses.
    """
    points = sorted(
        (record["iteration"], record[name])
        for record in history
        if not math.isnan(record.get(name, math.nan))
    )
    return [iteration for iteration, _ in points], [value for _, value in points]


def accuracy_prefixes(history: History) -> list[str]:
    """Return what stands before "bbox/AP" in the metrics: nothing, or data sets as "val/"."""
    names = dict.fromkeys(name for record in history for name in record)
    return [name.removesuffix("bbox/AP") for name in names if name.endswith("bbox/AP")]
