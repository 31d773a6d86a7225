"""Report on a run: a page for each of its test sets."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from detectron2.config import CfgNode

from .labels import count_labels
from .measure import ALL, measure
from .page import PAGE, write_page
from .panels import accuracy_panels
from .readings import read_ranking, read_suspects
from .runs import Run, load_runs
from .training import TrainingSection, describe_training, label_panels


def report_run(
    cfg: CfgNode, weights: str | Path, folder: Path, *, metrics_file: Path | None = None
) -> list[Path]:
    """Write a report on each test set of a run that has annotations.

    That of the first set goes into the folder itself, and each other into a folder of its name
    inside.

    Args:
        cfg: of the run, whose ``OUTPUT_DIR`` holds the detections; its data sets are registered.
        weights: that were evaluated.
        folder: to write into.
        metrics_file: of the training run; None leaves out how it went.

    Returns:
        The pages.

    Raises:
        OSError: a file can't be read or written.
        ValueError: the data can't be read.
    """
    runs = load_runs(cfg, weights)
    section = TrainingSection()
    if metrics_file is not None and runs:
        section = describe_training(cfg, metrics_file)
    folders = [folder / run.dataset if i else folder for i, run in enumerate(runs)]
    pages = []
    for run, own in zip(runs, folders, strict=True):
        addresses = {
            other.dataset: quote(os.path.relpath(place / PAGE, own))
            for other, place in zip(runs, folders, strict=True)
        }
        pages.append(_write(run, own, section, addresses))
    return pages


def _write(run: Run, folder: Path, training: TrainingSection, pages: Mapping[str, str]) -> Path:
    """Write the report on one data set."""
    facts = {
        "data": run.dataset,
        "run": {"weights": run.weights, "annotations": run.json_file},
        **measure(run.truth, run.detections, max_detections=run.max_detections),
    }
    best = (facts["thresholds"][ALL] or {"score": 0.0})["score"]
    gallery = run.gallery(facts["class_names"], best)
    images = facts["images"]
    labels = [*training.labels, count_labels(run.dataset, run.truth)]
    command = f"clq predict --weights {shlex.quote(run.weights)} photos/ --score-threshold {best}"
    return write_page(
        folder,
        "report.html.j2",
        facts,
        [*accuracy_panels(facts), *training.panels, *label_panels(labels)],
        pages=pages,
        command=command,
        worst=gallery.worst_images(images["worst"]),
        missed=gallery.missed_objects(images["missed"]),
        false_detections=gallery.false_detections(images["false"]),
        suspects=gallery.suspects(facts["suspects"]),
        suspects_reading=read_suspects(facts["suspects"]),
        ranking_reading=read_ranking(facts["calibration"]),
        training=training,
    )
