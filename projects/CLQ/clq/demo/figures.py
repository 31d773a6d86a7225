"""Pictures of a run: its losses and accuracy over time, and its detections beside the truth.

Letters: H, W image size, M ground-truth boxes, P detections. Boxes are (x0, y0, x1, y1) in pixels
of their image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..evaluation.report.history import LOSS_NAMES, read_history, series

MATCH_IOU = 0.5

# Colours seldom found in photographs; solid and dashed tells them apart without colour vision.
_MATCHED, _UNMATCHED = "#29d3ff", "#ff4fd0"
_DPI = 100
_GAP, _TITLE, _HEADER = 12, 28, 76  # pixels


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with its ground truth and all its detections.

    Attributes:
        image: (H, W, 3) RGB, uint8.
        gt_boxes: (M, 4).
        pred_boxes: (P, 4).
        scores: (P,) joint scores.
        name: printed above the picture.
        gt_classes: (M,) indices into the class names; None if there is only one class.
        pred_classes: (P,), likewise.
    """

    image: np.ndarray
    gt_boxes: np.ndarray
    pred_boxes: np.ndarray
    scores: np.ndarray
    name: str
    gt_classes: np.ndarray | None = None
    pred_classes: np.ndarray | None = None


# ---------------------------------------------------------------------------------- training.png


def draw_training_curves(
    metrics_file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    dataset_names: Sequence[str],
) -> None:
    """Draw the losses, and below them AP and AP50 of each test set, over the iterations.

    Args:
        metrics_file: Detectron2's metrics.json.
        out: the picture to write, 1000 x 800 pixels.
        dataset_names: names in the order of `DATASETS.TEST`.
    """
    history = read_history(metrics_file)
    figure = Figure(figsize=(10, 8), dpi=_DPI, layout="constrained")
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
    _save(figure, out)


# -------------------------------------------------------------------------------- detections.png


def draw_samples(
    samples: Sequence[Sample],
    out: str | os.PathLike[str],
    *,
    class_names: Sequence[str] = (),
    score_threshold: float | None = None,
    max_samples: int = 6,
    panel_px: int = 800,
) -> None:
    """Draw images in pairs: the ground truth on the left, the detections on the right.

    Args:
        samples: images to draw; those after the first `max_samples` only help to choose the
            threshold.
        out: the picture to write.
        class_names: printed at the boxes if there are several.
        score_threshold: lowest score drawn; None takes `best_f1_threshold(samples)`.
        max_samples: number of images to draw.
        panel_px: longer side of an enlarged image, in pixels.
    """
    title = "Detections with score ≥ {:.2f}"
    if score_threshold is None:
        score_threshold = best_f1_threshold(samples)
        title += ", the score at which F1 is best"
    samples = samples[:max_samples]
    per_row = min(2, max(1, len(samples)))
    n_rows = math.ceil(len(samples) / per_row)

    sizes = [_panel_size(sample, panel_px) for sample in samples]
    cell_w = max((w for w, _ in sizes), default=panel_px) + _GAP
    cell_h = max((h for _, h in sizes), default=0) + _TITLE + _GAP
    width, height = 2 * per_row * cell_w + _GAP, _HEADER + n_rows * cell_h
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    _draw_header(figure, height, title.format(score_threshold))

    for i, (sample, (w, h)) in enumerate(zip(samples, sizes, strict=True)):
        row, column = divmod(i, per_row)
        top = _HEADER + row * cell_h + _TITLE
        panels = []
        for left in (_GAP + 2 * column * cell_w, _GAP + (2 * column + 1) * cell_w):
            box = (left / width, 1 - (top + h) / height, w / width, h / height)
            panels.append(figure.add_axes(box))
        _draw_pair(panels[0], panels[1], sample, score_threshold, class_names)
    _save(figure, out)


def best_f1_threshold(samples: Sequence[Sample]) -> float:
    """The score, rounded down to 0.01, above which F1 at `MATCH_IOU` is highest on all samples.

    1 if no detection matches.
    """
    scores = np.concatenate([np.zeros(0), *(sample.scores for sample in samples)])
    is_match = np.concatenate([np.zeros(0, bool), *(_match(s)[1] for s in samples)])
    n_gt = sum(len(sample.gt_boxes) for sample in samples)
    if not is_match.any():
        return 1.0
    order = np.argsort(-scores, kind="stable")
    n_matched = np.cumsum(is_match[order])
    f1 = 2 * n_matched / (np.arange(1, len(scores) + 1) + n_gt)
    return math.floor(100 * scores[order[np.argmax(f1)]]) / 100


def _match(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection, by falling score, the free ground-truth box that it overlaps most.

    Returns:
        Whether each ground-truth box is found (M,), and whether each detection matches (P,).
    """
    found = np.zeros(len(sample.gt_boxes), bool)
    is_match = np.zeros(len(sample.pred_boxes), bool)
    if len(found) == 0:
        return found, is_match
    iou = _pairwise_iou(sample.pred_boxes, sample.gt_boxes)  # (P, M)
    if sample.gt_classes is not None and sample.pred_classes is not None:
        iou = iou * (sample.pred_classes[:, None] == sample.gt_classes[None, :])
    for p in np.argsort(-sample.scores, kind="stable"):
        free_iou = np.where(found, 0, iou[p])
        m = int(free_iou.argmax())
        is_match[p] = free_iou[m] >= MATCH_IOU
        found[m] |= is_match[p]
    return found, is_match


def _pairwise_iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    first, second = (Boxes(torch.as_tensor(boxes).float()) for boxes in (boxes1, boxes2))
    return pairwise_iou(first, second).numpy()


def _above(sample: Sample, score_threshold: float) -> Sample:
    """The sample without the detections below the threshold."""
    keep = sample.scores >= score_threshold
    return replace(
        sample,
        pred_boxes=sample.pred_boxes[keep],
        scores=sample.scores[keep],
        pred_classes=None if sample.pred_classes is None else sample.pred_classes[keep],
    )


def _draw_pair(
    gt_axes: Axes,
    pred_axes: Axes,
    sample: Sample,
    score_threshold: float,
    class_names: Sequence[str],
) -> None:
    sample = _above(sample, score_threshold)
    found, is_match = _match(sample)
    gt_labels = _class_labels(sample.gt_classes, class_names, len(found))
    pred_labels = [
        f"{label} {score:.2f}".strip()
        for label, score in zip(
            _class_labels(sample.pred_classes, class_names, len(is_match)),
            sample.scores,
            strict=True,
        )
    ]
    _draw_panel(gt_axes, sample.image, sample.gt_boxes, gt_labels, found)
    _draw_panel(pred_axes, sample.image, sample.pred_boxes, pred_labels, is_match)
    gt_title = f"{sample.name}: ground truth, {len(found)} objects, {found.sum()} found"
    gt_axes.set_title(gt_title, loc="left", fontsize=12, pad=4)
    pred_title = f"{len(is_match)} detections, {is_match.sum()} match"
    pred_axes.set_title(pred_title, loc="left", fontsize=12, pad=4)


def _class_labels(classes: np.ndarray | None, class_names: Sequence[str], count: int) -> list[str]:
    if classes is None or len(class_names) < 2:
        return [""] * count
    return [class_names[int(c)] for c in classes]


def _draw_panel(
    axes: Axes,
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[str],
    is_match: np.ndarray,
) -> None:
    height, width = image.shape[:2]
    # Box coordinates are edges: pixel 0 reaches from 0 to 1.
    axes.imshow(image, extent=(0, width, height, 0), interpolation="bicubic")
    axes.set_axis_off()
    for (x0, y0, x1, y1), label, matched in zip(boxes, labels, is_match, strict=True):
        color, style = (_MATCHED, "-") if matched else (_UNMATCHED, "--")
        axes.add_patch(
            Rectangle(
                (x0, y0),
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=color,
                linestyle=style,
                linewidth=1.5,
            )
        )
        at_top, at_right = y0 < 0.03 * height, x0 > 0.85 * width
        axes.annotate(
            label,
            (min(x1, width) if at_right else max(x0, 0), max(y0, 0)),
            xytext=(0, -2 if at_top else 1),
            textcoords="offset points",
            ha="right" if at_right else "left",
            va="top" if at_top else "baseline",
            color=color,
            fontsize=9,
            fontweight="bold",
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )


def _draw_header(figure: Figure, height: int, title: str) -> None:
    figure.text(0.01, 1 - 6 / height, title, va="top", fontsize=15, fontweight="bold")
    lines = [
        Line2D([], [], color=_MATCHED, linewidth=3),
        Line2D([], [], color=_UNMATCHED, linewidth=3, linestyle="--"),
    ]
    texts = [
        f"object that was found; detection that matches one (IoU ≥ {MATCH_IOU})",
        "object that was missed; detection without an object",
    ]
    corner = (0.005, 1 - 32 / height)
    figure.legend(
        lines, texts, loc="upper left", bbox_to_anchor=corner, ncols=2, frameon=False, fontsize=11
    )


def _panel_size(sample: Sample, panel_px: int) -> tuple[int, int]:
    """Width and height of the enlarged image, in pixels."""
    height, width = sample.image.shape[:2]
    scale = panel_px / max(height, width)
    return round(width * scale), round(height * scale)


def _save(figure: Figure, out: str | os.PathLike[str]) -> None:
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png")
