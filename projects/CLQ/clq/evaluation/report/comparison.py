"""Report on two runs side by side."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import figures
from .compare import compare
from .gallery import Picture
from .matches import match_run
from .measure import ALL, measure_thresholds
from .page import write_page
from .panels import Panel, listed
from .readings import number
from .runs import Run

Facts = Mapping[str, Any]


def report_comparison(first: Run, second: Run, folder: Path) -> Path:
    """Write a report on what the second run does better or worse than the first.

    Args:
        first: called A on the page.
        second: called B.
        folder: to write into.

    Returns:
        The page.

    Raises:
        OSError: a file can't be written.
        ValueError: the runs are not of the same data.
    """
    _check_same_data(first, second)
    limit = max(first.max_detections, second.max_detections)
    compared = compare(first.truth, first.detections, second.detections, max_detections=limit)
    names = compared["class_names"]
    thresholds = [
        measure_thresholds(match_run(r.truth, r.detections, max_detections=limit), names)[ALL]
        for r in (first, second)
    ]
    facts = {
        "data": first.dataset,
        "annotations": first.json_file,
        "a": {"weights": first.weights, "threshold": thresholds[0]},
        "b": {"weights": second.weights, "threshold": thresholds[1]},
        **compared,
    }
    galleries = [
        run.gallery(names, threshold=best["score"] if best else 0.0)
        for run, best in zip((first, second), thresholds)
    ]
    pictures: list[Picture] = []
    for row in compared["images"]:
        for name, gallery in zip("AB", galleries):
            title = f"{name}: {row[f'loss_{name.lower()}']:+.2f} points of AP without it"
            pictures.append(gallery.whole_image(row, title, row["file_name"]))
    return write_page(folder, "comparison.html.j2", facts, _panels(compared), pictures=pictures)


def read_difference(metric: Facts) -> str:
    """Say whether a difference is more than chance.

    Args:
        metric: {"a", "b", "delta", "low", "high"}.
    """
    if metric["delta"] is None:
        return "There is no object to find, so that there is no difference."
    size = f"{number(abs(metric['delta']))} points of AP"
    if metric["low"] == metric["high"]:  # of one image, or both None
        return f"The runs differ by {size}; these images can't tell how far that varies."
    if metric["low"] <= 0 <= metric["high"]:
        return (
            f"The runs differ by {size}, which may be chance: with other images of the same kind, "
            f"B minus A would lie between {number(metric['low'])} and {number(metric['high'])} in "
            "95 of 100 cases."
        )
    better, worse = ("B", "A") if metric["delta"] > 0 else ("A", "B")
    return (
        f"{better} is better than {worse} by {size}, more than chance explains: with other images "
        f"of the same kind, B minus A would lie between {number(metric['low'])} and "
        f"{number(metric['high'])} in 95 of 100 cases."
    )


def _panels(compared: Facts) -> list[Panel]:
    rows = [{"name": name, **metric} for name, metric in compared["metrics"].items()]
    panels = [
        Panel(
            "metrics",
            "B minus A: the twelve COCO metrics",
            figures.draw_differences(rows),
            listed("B minus A in points", ((r["name"], number(r["delta"])) for r in rows)),
            read_difference(compared["metrics"]["AP"]),
        )
    ]
    classes = [row for row in compared["ap_by_class"] if row["delta"] is not None]
    if len(classes) > 1:
        ranked = sorted(classes, key=lambda row: row["delta"])
        panels.append(
            Panel(
                "classes",
                "B minus A: AP by class",
                figures.draw_differences(_most_changed(ranked)),
                listed("B minus A in points", ((r["name"], number(r["delta"])) for r in ranked)),
                _read_classes(ranked),
            )
        )
    return panels


def _most_changed(ranked: Sequence[Facts], limit: int = 30) -> list[Facts]:
    """Return the classes that changed most, the best for B first."""
    chosen = sorted(ranked, key=lambda row: -abs(row["delta"]))[:limit]
    return sorted(chosen, key=lambda row: -row["delta"])


def _read_classes(ranked: Sequence[Facts]) -> str:
    low, high = ranked[0], ranked[-1]
    gain = f"B gains most on {high['name']}, {number(high['delta'])} points"
    if high["delta"] <= 0:
        gain = f"B gains on no class, least it loses on {high['name']}"
    loss = f"loses most on {low['name']}, {number(-low['delta'])}"
    return f"{gain}, and {loss if low['delta'] < 0 else 'loses on none'}."


def _check_same_data(first: Run, second: Run) -> None:
    """
    Raises:
        ValueError: the runs were evaluated on different data.
    """
    data = [
        os.path.realpath(run.json_file) if run.json_file else run.dataset for run in (first, second)
    ]
    if data[0] != data[1]:
        raise ValueError(
            f"{first.weights} was evaluated on {data[0]}, but {second.weights} on {data[1]}; name "
            "data for both by --val JSON IMAGES."
        )
