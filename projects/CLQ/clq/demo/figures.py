"""Figures of a run: its losses and accuracy over time, and its detections beside the truth.

Letters: H, W image size, M ground-truth boxes, P detections. Boxes are (x, y, width, height) in
pixels of their image, as in COCO.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..evaluation.report.history import LOSS_NAMES, read_history, series

# Colours seldom found in photographs; solid and dashed tells them apart without colour vision.
_MATCHED: dict[str, Any] = {"color": "#29d3ff", "linestyle": "-"}
_UNMATCHED: dict[str, Any] = {"color": "#ff4fd0", "linestyle": "--"}
_PANEL = 8  # inches that an image takes
_MAX_SAMPLES = 6


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with its ground truth and all its detections, matched at IoU 0.5.

    Attributes:
        image: (H, W, 3) RGB, uint8.
        name: printed above the image.
        gt_boxes: (M, 4).
        gt_scores: (M,), score of the detection that matches a box; NaN where none does.
        pred_boxes: (P, 4).
        scores: (P,) joint scores.
        is_match: (P,), whether a detection matches a box.
    """

    image: np.ndarray
    name: str
    gt_boxes: np.ndarray
    gt_scores: np.ndarray
    pred_boxes: np.ndarray
    scores: np.ndarray
    is_match: np.ndarray


def draw_training_curves(metrics_file: Path, out: Path, dataset_names: Sequence[str]) -> None:
    """Draw the losses, and below them AP and AP50 of each test set, over the iterations.

    Args:
        metrics_file: Detectron2's metrics.json.
        out: the figure to write, 1000 x 800 pixels.
        dataset_names: names in the order of `DATASETS.TEST`.
    """
    history = read_history(metrics_file)
    figure = Figure(figsize=(10, 8), layout="constrained")
    loss_axes, ap_axes = figure.subplots(2, 1, sharex=True)

    for name in LOSS_NAMES:
        iterations, values = series(history, name)
        if iterations:
            color, width = ("black", 2.0) if name == "total_loss" else (None, 1.5)
            loss_axes.plot(iterations, values, label=name, color=color, linewidth=width)
    loss_axes.set(ylabel="loss", title="Training losses")

    for i, dataset in enumerate(dataset_names):
        for metric, style in (("AP50", "-"), ("AP", "--")):
            key = f"bbox/{metric}" if len(dataset_names) == 1 else f"{dataset}/bbox/{metric}"
            iterations, values = series(history, key)
            if iterations:
                label = f"{dataset}: {metric} {values[-1]:.1f}"
                ap_axes.plot(iterations, values, style, color=f"C{i}", marker="o", label=label)
    ap_axes.set(xlabel="iteration", ylabel="percent", title="Accuracy on the test sets")

    for axes in (loss_axes, ap_axes):
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        else:
            axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center")
    figure.savefig(out)


def draw_samples(samples: Sequence[Sample], threshold: float, out: Path) -> None:
    """Draw images in pairs, two a row: the ground truth on the left, the detections on the right.

    Args:
        samples: at least one, of which the first six are drawn.
        threshold: score of the best F1, from which on detections are drawn.
        out: the figure to write.
    """
    samples = samples[:_MAX_SAMPLES]
    per_row = min(2, len(samples))
    num_rows = math.ceil(len(samples) / per_row)
    aspect = max(sample.image.shape[0] / sample.image.shape[1] for sample in samples)
    size = (2 * _PANEL * per_row, _PANEL * num_rows * aspect + 1)
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots(num_rows, 2 * per_row, squeeze=False).flatten()
    for ax in axes:
        ax.set_axis_off()
    for i, sample in enumerate(samples):
        _draw_pair(axes[2 * i], axes[2 * i + 1], sample, threshold)
    figure.legend(
        [Line2D([], [], linewidth=3, **style) for style in (_MATCHED, _UNMATCHED)],
        [
            "object that was found; detection that matches one (IoU ≥ 0.5)",
            "object that was missed; detection without an object",
        ],
        loc="outside upper left",
        title=f"Detections with score ≥ {threshold:.2f}, the score at which F1 is best",
        title_fontsize=15,
        fontsize=11,
        ncols=2,
    )
    figure.savefig(out, bbox_inches="tight")


def _draw_pair(gt_axes: Axes, pred_axes: Axes, sample: Sample, threshold: float) -> None:
    is_drawn, is_found = sample.scores >= threshold, sample.gt_scores >= threshold
    boxes, scores = sample.pred_boxes[is_drawn], sample.scores[is_drawn]
    is_match = sample.is_match[is_drawn]
    _draw_panel(gt_axes, sample.image, sample.gt_boxes, is_found)
    _draw_panel(pred_axes, sample.image, boxes, is_match, [f"{score:.2f}" for score in scores])
    counts = f"{len(is_found)} objects, {is_found.sum()} found"
    gt_axes.set_title(f"{sample.name}: ground truth, {counts}", loc="left")
    pred_axes.set_title(f"{len(scores)} detections, {is_match.sum()} match", loc="left")


def _draw_panel(
    axes: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    is_match: np.ndarray,
    labels: Sequence[str] = (),
) -> None:
    height, width = image.shape[:2]
    # Box coordinates are edges: pixel 0 reaches from 0 to 1.
    axes.imshow(image, extent=(0, width, height, 0), interpolation="bicubic")
    styles = [_MATCHED if matched else _UNMATCHED for matched in is_match]
    for (x, y, w, h), style in zip(boxes, styles, strict=True):
        axes.add_patch(Rectangle((x, y), w, h, fill=False, linewidth=1.5, **style))
    for (x, y, *_), style, label in zip(boxes, styles, labels):
        axes.text(
            np.clip(x, 0, 0.95 * width),
            max(y, 0.03 * height),
            label,
            color=style["color"],
            fontweight="bold",
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )
