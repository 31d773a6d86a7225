"""The figure: AP of every member, and its difference to ATSS."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .cells import BASELINE, MEMBERS
from .summary import Row, rows_of, spread

# Of the palette of Okabe and Ito, which colour-blind people can tell apart.
_SEED_COLOR, _MEAN_COLOR = "#E69F00", "#0072B2"


def draw_figure(rows: Sequence[Row], differences: Sequence[Row], out: Path) -> None:
    """Draw a row of panels for each data set that has results.

    Args:
        rows: of the results.
        differences: as ``update_differences`` gives them.
        out: picture to write, png.
    """
    names = list(dict.fromkeys(row["data"] for row in rows))
    members = {data: [m for m in MEMBERS if rows_of(rows, data, m)] for data in names}
    heights = [len(members[data]) + 1.5 for data in names]
    figure = Figure(figsize=(10, 0.36 * sum(heights) + 1), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(names), 2, height_ratios=heights, squeeze=False)
    for (left, right), data in zip(panels, names, strict=True):
        _draw_ap(left, data, members[data], rows)
        _draw_differences(right, data, members[data], differences)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=3, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", metadata={"Software": None})


def _draw_ap(axes: Axes, data: str, members: Sequence[str], rows: Sequence[Row]) -> None:
    for y, member in enumerate(members):
        ap = spread(list(rows_of(rows, data, member).values()), "AP")
        if ap is None:
            continue
        axes.plot(ap.values, [y] * len(ap.values), "o", color=_SEED_COLOR)
        axes.plot(ap.mean, y, "D", color=_MEAN_COLOR, zorder=3)
    axes.set(title=f"{data}: AP", xlabel="percent")
    _label_members(axes, members)


def _draw_differences(
    axes: Axes, data: str, members: Sequence[str], differences: Sequence[Row]
) -> None:
    axes.axvline(0, color="black", linewidth=1)
    for row in differences:
        if (row["data"], row["baseline"], row["metric"]) != (data, BASELINE, "AP"):
            continue
        y = members.index(row["member"])
        seeds = [float(value) for value in row["by_seed"].split()]
        axes.plot([float(row["low"]), float(row["high"])], [y, y], color=_MEAN_COLOR, linewidth=2)
        axes.plot(seeds, [y] * len(seeds), "o", color=_SEED_COLOR)
        axes.plot(float(row["difference"]), y, "D", color=_MEAN_COLOR, zorder=3)
    axes.set(title=f"{data}: AP minus AP of {BASELINE}", xlabel="percentage points")
    _label_members(axes, members)
    axes.set_yticklabels([])


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=_SEED_COLOR, marker="o", linestyle="", label="one seed"),
        Line2D([], [], color=_MEAN_COLOR, marker="D", linestyle="", label="mean of the seeds"),
        Line2D([], [], color=_MEAN_COLOR, linewidth=2, label="its 95 % interval over images"),
    ]


def _label_members(axes: Axes, members: Sequence[str]) -> None:
    axes.set_yticks(range(len(members)), members)
    axes.set_ylim(len(members) - 0.5, -0.5)  # the first on top
    axes.grid(axis="x", alpha=0.3)
