"""The two figures: where a member gains over ATSS, and how well its score ranks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clq.evaluation.report.matches import IOU_THRESHOLDS

from .cells import BASELINE, FAMILY
from .summary import Group, spread

NAMES = {
    "atss": "ATSS",
    "atss_clq": "ATSS + CLQ",
    "atss_clq_align": "ATSS + CLQ, aligned",
    "atss_clq_alpha_0.5": "ATSS + CLQ, alpha 0.5",
    "gfl": "GFL",
    "clq": "CLQ",
}
# Of the palette of Okabe and Ito, which colour-blind people can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#BBBBBB"


def draw_curves(groups: Sequence[Group], out: Path) -> None:
    """Draw the difference to ATSS over the IoU thresholds, a panel for each member and group.

    Args:
        groups: a row of panels each.
        out: picture to write, png.
    """
    members = [member for member in FAMILY if member != BASELINE]
    figure = _figure(2.7 * len(members), 2.5 * len(groups) + 0.5)
    panels = figure.subplots(len(groups), len(members), sharex=True, sharey="row", squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        for axes, member in zip(row, members, strict=True):
            _draw_curve(axes, group, member)
            axes.set_title(f"{NAMES[member]}, {group.data.replace('_', ' ')}", fontsize=10)
        row[0].set_ylabel("AP minus that of ATSS")
    for axes in panels[-1]:
        axes.set_xlabel("IoU threshold")
    _save(figure, out)


def _draw_curve(axes: Axes, group: Group, member: str) -> None:
    axes.axhline(0, color="black", linewidth=1)
    axes.grid(alpha=0.3)
    curve = np.array(group.curve(member, BASELINE)).reshape(-1, 3)
    if len(curve):
        axes.fill_between(IOU_THRESHOLDS, curve[:, 1], curve[:, 2], color=_BLUE, alpha=0.25, lw=0)
        axes.plot(IOU_THRESHOLDS, curve[:, 0], color=_BLUE, marker="o", markersize=3)
    else:
        axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center")


def draw_scores(groups: Sequence[Group], out: Path) -> None:
    """Draw how well scores rank: AP that they reach of the possible, and their rank correlation.

    Args:
        groups: a row of two panels each.
        out: picture to write, png.
    """
    figure = _figure(9, 2.2 * len(groups) + 0.4)
    panels = figure.subplots(len(groups), 2, squeeze=False)
    for (left, right), group in zip(panels, groups, strict=True):
        members = [member for member in FAMILY if member in group.members]
        _draw_headroom(left, group, members)
        _draw_correlation(right, group, members)
        title = group.data.replace("_", " ")
        left.set_title(f"{title}: AP by score (blue), by true IoU (grey)", fontsize=10)
        right.set_title(f"{title}: rank correlation of score and IoU", fontsize=10)
    _save(figure, out)


def _draw_headroom(axes: Axes, group: Group, members: Sequence[str]) -> None:
    for y, member in enumerate(members):
        pair = [spread(group.values(member, f"AP_by_{by}")) for by in ("score", "true_IoU")]
        share = spread(group.shares(member))
        if pair[0] is None or pair[1] is None or share is None:
            continue
        axes.barh(y, pair[1].mean, color=_GREY, height=0.6)
        axes.barh(y, pair[0].mean, color=_BLUE, height=0.6)
        text = f"{pair[0].mean:.1f}, {share.mean:.0f} % of the possible "
        style: dict[str, Any] = {"va": "center", "fontsize": 8}
        axes.text(pair[0].mean, y, text, ha="right", color="white", **style)
        axes.text(pair[1].mean, y, f"{pair[1].mean:.1f} ", ha="right", **style)
    _label(axes, members)


def _draw_correlation(axes: Axes, group: Group, members: Sequence[str]) -> None:
    for y, member in enumerate(members):
        values = group.rank_correlations(member)
        axes.plot(values, [y] * len(values), "o", color=_ORANGE, markersize=4)
        mean = spread(values)
        if mean is not None:
            axes.plot(mean.mean, y, "D", color=_BLUE, zorder=3)
    _label(axes, members)


def _label(axes: Axes, members: Sequence[str]) -> None:
    axes.set_yticks(range(len(members)), [NAMES[member] for member in members], fontsize=8)
    axes.set_ylim(len(members) - 0.5, -0.5)  # the first on top
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", metadata={"Software": None})
