"""The figures of a report with what stands beside them: a reading, and the facts as text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from . import figures, readings
from .readings import number

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """A figure of the page.

    Attributes:
        name: of its file, without suffix.
        title: above it.
        figure: to render.
        alt: the facts of the figure as text, for those who can't see it.
        reading: what to read from it on this run.
    """

    name: str
    title: str
    figure: Figure
    alt: str
    reading: str


def accuracy_panels(facts: Facts) -> list[Panel]:
    """Draw all figures of the facts that `measure` returns."""
    metrics = facts["metrics"]
    return [
        Panel(
            "metrics",
            "The twelve COCO metrics",
            figures.draw_metrics(metrics),
            listed("Metrics in percent", ((n, number(m["value"])) for n, m in metrics.items())),
            readings.read_metrics(facts),
        ),
        _thresholds(facts),
        *_classes(facts),
        Panel(
            "sizes",
            "AP and AR by the size of objects",
            figures.draw_sizes(metrics),
            listed(
                "AP and AR",
                (
                    (f"{kind}{size}", number(metrics[f"{kind}{size}"]["value"]))
                    for kind in ("AP", "AR")
                    for size in "sml"
                ),
            ),
            readings.read_sizes(metrics),
        ),
        Panel(
            "ious",
            "AP by IoU threshold",
            figures.draw_ious(facts["ap_by_iou"]),
            listed(
                "AP by IoU", ((number(p["iou"], 2), number(p["AP"])) for p in facts["ap_by_iou"])
            ),
            readings.read_ious(facts["ap_by_iou"]),
        ),
        Panel(
            "errors",
            "AP50 that each kind of error costs",
            figures.draw_errors(facts["errors"]["delta_ap"]),
            listed(
                "Points of AP50 lost",
                ((name, number(v)) for name, v in facts["errors"]["delta_ap"].items()),
            ),
            readings.read_errors(facts["errors"]),
        ),
        *_confusion(facts),
        *_reliability(facts["calibration"]),
    ]


def _thresholds(facts: Facts) -> Panel:
    curve, best = facts["curves"]["all"], facts["thresholds"]["all"]
    rows = zip(*(curve[key][::10] for key in ("score", "precision", "recall")), strict=True)
    return Panel(
        "thresholds",
        "Precision, recall and F1 by score threshold",
        figures.draw_thresholds(curve, best),
        listed(
            "Precision and recall by score threshold",
            ((number(s), f"{number(p, 2)} and {number(r, 2)}") for s, p, r in rows),
        ),
        readings.read_thresholds(curve, best),
    )


def _classes(facts: Facts) -> Iterator[Panel]:
    """Yield the AP by class, where there are several."""
    if len(facts["ap_by_class"]) > 1:
        yield Panel(
            "classes",
            "AP by class",
            figures.draw_classes(facts["ap_by_class"]),
            listed(
                "AP by class", ((row["name"], number(row["AP"])) for row in facts["ap_by_class"])
            ),
            readings.read_classes(facts),
        )


def _confusion(facts: Facts) -> Iterator[Panel]:
    """Yield the confusion matrix, unless it has too many classes to be read."""
    names, matrix = facts["class_names"], facts["confusion"]["matrix"]
    if "worst_pairs" not in facts["confusion"]:
        found = (
            (name, f"{matrix[k][k]} of {sum(matrix[k])} found") for k, name in enumerate(names)
        )
        yield Panel(
            "confusion",
            "Confusion matrix",
            figures.draw_confusion(matrix, names),
            listed("Objects by class", found),
            readings.read_confusion(facts),
        )


def _reliability(calibration: Facts) -> Iterator[Panel]:
    for key, title, label in (
        ("iou", "Score against IoU", "mean IoU with the nearest object"),
        ("correct", "Score against being right", "share that is right at IoU 0.5"),
    ):
        filled = [b for b in calibration["bins"] if b["count"]]
        yield Panel(
            f"reliability_{key}",
            title,
            figures.draw_reliability(calibration["bins"], key, label),
            listed(
                f"{label[0].upper()}{label[1:]} by mean score",
                ((number(b["score"], 2), number(b[key], 2)) for b in filled),
            ),
            readings.read_reliability(calibration, key),
        )


def listed(title: str, items: Iterable[tuple[str, str]]) -> str:
    """Write a figure's facts as text."""
    return f"{title}. {'; '.join(f'{name}: {value}' for name, value in items)}."
