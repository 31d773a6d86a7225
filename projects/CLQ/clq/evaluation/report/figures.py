"""Figures of the report on a run's accuracy, one function each.

Each takes a part of the facts that `measure` returns, and gives a matplotlib figure that is still
readable at a third of its size.

Letters: K classes.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...utils.unprintable import escape_unprintable

# Of the palette of Okabe and Ito, which colour-blind people can tell apart.
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#9AA3AD", "#1F2933"
WIDTH = 6.0  # inches
_DPI = 160
_MAX_BARS = 30  # classes in a figure
_STYLE: Any = {"font.size": 11, "axes.edgecolor": GREY, "text.color": INK, "axes.labelcolor": INK}

Facts = Mapping[str, Any]


def as_png(figure: Figure) -> bytes:
    """Render a figure."""
    out = io.BytesIO()
    with warnings.catch_warnings():  # class names may have letters that the font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def new_axes(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Return an empty figure of a size in inches, and its axes."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def draw_metrics(metrics: Facts) -> Figure:
    """Draw the twelve metrics as dots with their intervals."""
    figure, axes = new_axes(4.2)
    _draw_intervals(axes, list(metrics), list(metrics.values()))
    axes.set_xlabel("percent, with the 95 % interval")
    return figure


def draw_thresholds(curve: Facts, best: Facts | None) -> Figure:
    """Draw precision, recall and F1 over the score threshold, and the best F1 if there is one."""
    figure, axes = new_axes(4)
    for name, color, style in (
        ("precision", BLUE, "--"),
        ("recall", GREEN, "-."),
        ("f1", INK, "-"),
    ):
        values = np.array(curve[name], dtype=float)
        label = "F1" if name == "f1" else name
        axes.plot(curve["score"], values, style, color=color, label=label, linewidth=2)
    if best:
        axes.axvline(best["score"], color=ORANGE, linewidth=1.5)
        axes.plot([best["score"]], [best["f1"]], "o", color=ORANGE, label="best F1")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score threshold", ylabel="at IoU 0.5")
    put_legend_above(axes)
    return figure


def draw_classes(ap_by_class: Sequence[Facts]) -> Figure:
    """Draw the AP of classes, lowest last; of many classes the lowest."""
    defined = [row for row in ap_by_class if row["AP"] is not None]
    rows = sorted(defined, key=lambda row: row["AP"])[:_MAX_BARS][::-1]
    figure, axes = new_axes(max(1.0 + 0.28 * len(rows), 2.0))
    values = [{"value": row["AP"], "low": row["low"], "high": row["high"]} for row in rows]
    _draw_intervals(axes, [short_name(row["name"]) for row in rows], values)
    axes.set_xlabel("AP, with the 95 % interval")
    return figure


def draw_differences(rows: Sequence[Facts]) -> Figure:
    """Draw differences of two runs as dots with their intervals, around 0."""
    figure, axes = new_axes(max(1.0 + 0.28 * len(rows), 2.0))
    axes.axvline(0, color=INK, linewidth=1)
    for row, entry in enumerate(rows):
        if entry["delta"] is not None:
            is_clear = entry["low"] is not None and not entry["low"] <= 0 <= entry["high"]
            color = BLUE if is_clear else GREY
            if entry["low"] is not None:
                axes.plot([entry["low"], entry["high"]], [row, row], color=color, alpha=0.4, lw=6)
            axes.plot([entry["delta"]], [row], "o", color=color)
    axes.set_yticks(range(len(rows)), [short_name(entry["name"]) for entry in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("points, with the 95 % interval; grey where it has 0")
    return figure


def draw_sizes(metrics: Facts) -> Figure:
    """Draw AP and AR of small, medium and large objects."""
    figure, axes = new_axes(3.4)
    for offset, prefix, color in ((-0.2, "AP", BLUE), (0.2, "AR", GREY)):
        values = [metrics[f"{prefix}{size}"]["value"] for size in "sml"]
        bars = axes.bar(np.arange(3) + offset, [v or 0 for v in values], 0.38, color=color)
        axes.bar_label(bars, ["–" if v is None else f"{v:.0f}" for v in values], padding=2)
        bars.set_label(prefix)
    axes.set_xticks(range(3), ["small\n< 32² px", "medium", "large\n> 96² px"])
    axes.set(ylim=(0, 110), ylabel="percent")
    axes.grid(visible=False, axis="x")
    put_legend_above(axes)
    return figure


def draw_ious(ap_by_iou: Sequence[Facts]) -> Figure:
    """Draw AP over the IoU that a box must reach."""
    figure, axes = new_axes(3.4)
    values = np.array([point["AP"] for point in ap_by_iou], dtype=float)
    axes.plot([point["iou"] for point in ap_by_iou], values, "-o", color=BLUE, linewidth=2)
    axes.set(ylim=(0, 102), xlabel="IoU threshold", ylabel="AP")
    return figure


def draw_errors(delta_ap: Facts) -> Figure:
    """Draw the AP that each kind of error costs."""
    figure, axes = new_axes(3.4)
    values = list(delta_ap.values())
    bars = axes.barh(list(delta_ap)[::-1], values[::-1], color=ORANGE)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(xlabel="AP50 lost, in points", xlim=(0, max(*values, 1) * 1.15))
    axes.grid(visible=False, axis="y")
    return figure


def draw_confusion(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix of up to 30 classes: rows are the truth, shaded by their share."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [*map(short_name, class_names), "background"]
    side = max(4.0, 2.0 + 0.32 * len(names))
    figure, axes = new_axes(side, max(side, WIDTH))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    size = 11 if len(names) < 9 else 8  # points
    for (row, column), count in np.ndenumerate(counts):
        if count and not row == column == len(names) - 1:
            color = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=size)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="truth")
    return figure


def draw_reliability(bins: Sequence[Facts], key: str, label: str) -> Figure:
    """Draw a reliability diagram: what a score promises against what comes of it.

    Args:
        bins: of the calibration.
        key: "iou" or "correct".
        label: of the vertical axis.
    """
    figure, axes = new_axes(4.6)
    axes.plot([0, 1], [0, 1], "--", color=GREY, label="a score that means this")
    filled = [b for b in bins if b["count"]]
    widths = [b["high"] - b["low"] for b in filled]
    values = [b[key] for b in filled]
    lows = [b["low"] for b in filled]
    axes.bar(lows, values, widths, align="edge", color=BLUE, alpha=0.25, edgecolor=BLUE)
    most = max((b["count"] for b in filled), default=1)
    areas = [20 + 180 * b["count"] / most for b in filled]
    axes.scatter([b["score"] for b in filled], values, areas, color=BLUE, zorder=3)
    for bin_, value in zip(filled, values, strict=True):
        at = (bin_["low"] + (bin_["high"] - bin_["low"]) / 2, value)
        axes.annotate(
            f"{bin_['count']}", at, (0, 11), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="score (numbers: detections)", ylabel=label)
    put_legend_above(axes)
    return figure


def _draw_intervals(axes: Axes, names: Sequence[str], values: Sequence[Facts]) -> None:
    """Draw rows of percent from top to bottom, each a dot with its interval and value."""
    for row, entry in enumerate(values):
        value, low, high = entry["value"], entry["low"], entry["high"]
        if value is None:
            axes.text(1, row, "undefined", va="center", color=GREY)
            continue
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=BLUE, alpha=0.35, linewidth=6)
        axes.plot([value], [row], "o", color=BLUE)
        right = value if high is None else max(value, high)
        axes.text(right + 1.5, row, f"{value:.1f}", va="center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 112), xticks=range(0, 101, 20), ylim=(len(names) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")


def put_legend_above(axes: Axes) -> None:
    """Put the legend, if there is anything to name, in a row above the axes."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)


def short_name(name: str, length: int = 24) -> str:
    """Return a class name that fits beside an axis, and that matplotlib takes for plain text."""
    name = escape_unprintable(name)
    name = name if len(name) <= length else f"{name[: length - 1]}…"
    return name.replace("$", r"\$")
