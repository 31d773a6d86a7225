"""Figures of the report on a training run and its labels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .figures import BLUE, GREEN, GREY, INK, ORANGE, new_axes, put_legend_above, short_name
from .history import LOSS_NAMES, History, accuracy_prefixes, series
from .labels import LabelStatistics

_COLORS = (BLUE, ORANGE, GREEN, GREY)
_MAX_BARS = 30


def draw_losses(history: History) -> Figure:
    """Draw the losses over the iterations."""
    figure, axes = new_axes(3.6)
    for name, color in zip(LOSS_NAMES, (INK, *_COLORS), strict=True):
        label = name.removeprefix("loss_").replace("_loss", "")
        axes.plot(*series(history, name), color=color, label=label, linewidth=1.6)
    axes.set(xlabel="iteration", ylabel="loss")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return figure


def draw_accuracy(history: History) -> Figure:
    """Draw AP and AP50 of each test set over the iterations."""
    figure, axes = new_axes(3.6)
    for prefix, color in zip(accuracy_prefixes(history), _COLORS):
        for metric, style in (("AP50", "--o"), ("AP", "-o")):
            points = series(history, f"{prefix}bbox/{metric}")
            label = f"{metric} {short_name(prefix.rstrip('/'))}".strip()
            axes.plot(*points, style, color=color, label=label, markersize=4)
    axes.set(xlabel="iteration", ylabel="percent")
    axes.set_xlim(0, 1.03 * (max(record["iteration"] for record in history) + 1))
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def draw_learning_rate(history: History) -> Figure:
    """Draw the learning rate over the iterations."""
    figure, axes = new_axes(2.8)
    axes.plot(*series(history, "lr"), color=BLUE, linewidth=2)
    axes.set(xlabel="iteration", ylabel="learning rate")
    axes.set_ylim(bottom=0)
    return figure


def draw_time(history: History) -> Figure:
    """Draw the seconds of an iteration, and those of them that it waited for data."""
    figure, axes = new_axes(2.8)
    axes.plot(*series(history, "time"), color=BLUE, label="all", linewidth=2)
    axes.plot(*series(history, "data_time"), "--", color=ORANGE, label="waiting for images")
    axes.set(xlabel="iteration", ylabel="seconds an iteration")
    axes.set_ylim(bottom=0)
    put_legend_above(axes)
    return figure


def draw_class_counts(sets: Sequence[LabelStatistics]) -> Figure:
    """Draw the share of each class among the objects of each set, most frequent first."""
    names = sorted(sets[0].counts, key=lambda name: -sets[0].counts[name])[:_MAX_BARS]
    figure, axes = new_axes(max(1.2 + 0.32 * len(names) * min(len(sets), 2), 2.2))
    height = 0.8 / len(sets)
    for i, (statistics, color) in enumerate(zip(sets, _COLORS)):
        total = max(statistics.num_objects, 1)
        shares = [100 * statistics.counts.get(name, 0) / total for name in names]
        rows = np.arange(len(names)) - 0.4 + height * (i + 0.5)
        axes.barh(rows, shares, height, color=color, label=short_name(statistics.name))
    axes.set_yticks(range(len(names)), [short_name(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("percent of the objects")
    axes.grid(visible=False, axis="y")
    put_legend_above(axes)
    return figure


def draw_object_sizes(sets: Sequence[LabelStatistics]) -> Figure:
    """Draw how the sizes of objects are spread in each set."""
    figure, axes = new_axes(3.6)
    sides = np.concatenate([statistics.sides for statistics in sets])
    sides = sides[sides > 0]
    low, high = (sides.min(), sides.max()) if len(sides) else (1, 2)
    edges = np.geomspace(low, max(high, low * 1.5), 24)
    for statistics, color in zip(sets, _COLORS):
        if statistics.num_objects:
            weights = np.full(statistics.num_objects, 100 / statistics.num_objects)
            axes.hist(
                statistics.sides,
                edges.tolist(),
                weights=weights,
                histtype="step",
                linewidth=2,
                color=color,
                label=short_name(statistics.name),
            )
    axes.set_xscale("log")
    ticks = [2**k for k in range(16) if edges[0] <= 2**k <= edges[-1]]
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_xticks([], minor=True)
    for side in (32, 96):
        axes.axvline(side, color=GREY, linestyle=":", linewidth=1)
    axes.set(xlabel="square root of the area, pixels", ylabel="percent of the objects")
    put_legend_above(axes)
    return figure
