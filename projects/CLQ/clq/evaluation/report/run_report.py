"""Report on a run: from its configuration and its folder to a page for each test set."""

import json
import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..coco_evaluation import detections_file, load_ground_truth
from .gallery import Gallery
from .labels import count_labels
from .measure import ALL, measure
from .page import PAGE, write_page
from .panels import accuracy_panels
from .readings import read_ranking, read_suspects
from .thumbnails import ThumbnailMaker
from .training import TrainingSection, describe_training, label_panels

logger = logging.getLogger(__name__)

Truth = Mapping[str, Any]

_MAX_SUSPECTS = 1000  # in report.json


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
    truths = _labelled_truths(cfg)
    section = TrainingSection()
    if metrics_file is not None and truths:
        section = describe_training(cfg, metrics_file)
    folders = {name: folder / name if i else folder for i, name in enumerate(truths)}
    pages = []
    for name, truth in truths.items():
        detections = json.loads(detections_file(cfg.OUTPUT_DIR, name).read_text())
        run = _leave_out_unreadable(Run(cfg, str(weights), name, truth, detections))
        others = {
            other: quote(os.path.relpath(place / PAGE, folders[name]))
            for other, place in folders.items()
        }
        pages.append(_write(run, folders[name], section, others))
    return pages


@dataclass(frozen=True)
class Run:
    """Detections of a run on one data set.

    Attributes:
        cfg: of the run.
        weights: that made them.
        dataset: name of the data set.
        truth: its COCO dict.
        detections: COCO results.
    """

    cfg: CfgNode
    weights: str
    dataset: str
    truth: Truth
    detections: Sequence[Mapping[str, Any]]

    @property
    def json_file(self) -> str | None:
        """Annotations of the data set; None for one that was registered without a file."""
        return MetadataCatalog.get(self.dataset).get("json_file")

    def thumbnail_maker(self) -> ThumbnailMaker:
        """Return what draws the images of the data set."""
        root = MetadataCatalog.get(self.dataset).get("image_root") or ""
        return ThumbnailMaker(Path(root), bit_depth=self.cfg.INPUT.BIT_DEPTH)


def _labelled_truths(cfg: CfgNode) -> dict[str, Truth]:
    """Load the test sets that have annotations, and log which have none."""
    truths = {}
    for name in cfg.DATASETS.TEST:
        truth, _ = load_ground_truth(name, cfg.MODEL.CLQ.NUM_CLASSES)
        if "annotations" in truth:
            truths[name] = truth
        else:
            logger.info("%s has no annotations, so there is no report on it.", name)
    return truths


def _leave_out_unreadable(run: Run) -> Run:
    """Leave out images that the evaluation skipped: without detections, and unreadable."""
    if not run.cfg.DATALOADER.SKIP_UNREADABLE:
        return run
    maker, found = run.thumbnail_maker(), {d["image_id"] for d in run.detections}
    images = [
        image
        for image in run.truth["images"]
        if image["id"] in found or maker.is_readable(image["file_name"])
    ]
    ids = {image["id"] for image in images}
    annotations = [a for a in run.truth["annotations"] if a["image_id"] in ids]
    truth = {**run.truth, "images": images, "annotations": annotations}
    return replace(run, truth=truth)


def _write(run: Run, folder: Path, training: TrainingSection, pages: Mapping[str, str]) -> Path:
    """Write the report on one data set."""
    facts = {
        "data": run.dataset,
        "run": {"weights": run.weights, "annotations": run.json_file},
        **measure(run.truth, run.detections, max_detections=run.cfg.TEST.DETECTIONS_PER_IMAGE),
    }
    best = (facts["thresholds"][ALL] or {"score": 0.0})["score"]
    gallery = Gallery(
        run.thumbnail_maker(), run.truth, run.detections, facts["class_names"], threshold=best
    )
    images = facts["images"]
    labels = [*training.labels, count_labels(run.dataset, run.truth)]
    command = f"clq predict --weights {shlex.quote(run.weights)} photos/ --score-threshold {best:g}"
    return write_page(
        folder,
        "report.html.j2",
        {**facts, "suspects": facts["suspects"][:_MAX_SUSPECTS]},
        [*accuracy_panels(facts), *training.panels, *label_panels(labels)],
        pages=pages,
        command=command,
        worst=gallery.worst_images(images["worst"]),
        missed=gallery.missed_objects(images["missed"]),
        false=gallery.false_detections(images["false"]),
        suspects=gallery.suspects(facts["suspects"]),
        suspects_reading=read_suspects(facts["suspects"]),
        ranking_reading=read_ranking(facts["calibration"]),
        training=training,
    )


def report_comparison(first, second, folder):
    raise NotImplementedError
