"""Traces of a run on its test sets: ground truth, detections and images."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...data.mapped_dataset import read_error
from ..coco_evaluation import detections_file, load_ground_truth
from .gallery import Gallery
from .thumbnails import ThumbnailMaker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Detections of a detector on one data set.

    Attributes:
        weights: that made them.
        dataset: name of the data set.
        json_file: its annotations; None for a data set that has no file.
        truth: its COCO dict.
        detections: COCO results.
        maker: draws its images.
        max_detections: of an image and class that count.
    """

    weights: str
    dataset: str
    json_file: str | None
    truth: Mapping[str, Any]
    detections: Sequence[Mapping[str, Any]]
    maker: ThumbnailMaker
    max_detections: int

    def gallery(self, class_names: Sequence[str], threshold: float) -> Gallery:
        """Return what draws images with the detections of a least score."""
        return Gallery(self.maker, self.truth, self.detections, class_names, threshold)


def load_runs(cfg: CfgNode, weights: str | Path) -> list[Run]:
    """Load ground truth and detections of each test set; those that show nothing are logged.

    Args:
        cfg: of the run, whose ``OUTPUT_DIR`` holds the detections; its data sets are registered.
        weights: that were evaluated.

    Raises:
        OSError: a file can't be read.
        ValueError: the data can't be read.
    """
    runs = []
    for name in cfg.DATASETS.TEST:
        truth, _ = load_ground_truth(name, cfg.MODEL.CLQ.NUM_CLASSES)
        if "annotations" not in truth:
            logger.info("%s has no annotations, so there is no report on it.", name)
            continue
        metadata = MetadataCatalog.get(name)
        root, bit_depth = Path(metadata.get("image_root") or ""), cfg.INPUT.BIT_DEPTH
        detections = _read_detections(detections_file(cfg.OUTPUT_DIR, name), truth)
        if cfg.DATALOADER.SKIP_UNREADABLE:
            truth = _without_skipped(truth, detections, root, bit_depth)
        if not truth["images"]:
            logger.info("%s has no image that can be read, so there is no report on it.", name)
            continue
        run = Run(
            weights=str(weights),
            dataset=name,
            json_file=metadata.get("json_file"),
            truth=truth,
            detections=detections,
            maker=ThumbnailMaker(root, bit_depth=bit_depth),
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        runs.append(run)
    return runs


def _read_detections(path: Path, truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Raises:
        ValueError: the file is damaged, or has detections of another data set.
    """
    try:
        detections = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to evaluate anew.") from error
    for key, section in (("image_id", "images"), ("category_id", "categories")):
        unknown = {d[key] for d in detections} - {entry["id"] for entry in truth[section]}
        if unknown:
            raise ValueError(
                f"{path} has detections of {key} {min(map(str, unknown))}, which its data set does "
                "not have any more; delete the file to evaluate anew."
            )
    return detections


def _without_skipped(
    truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    image_root: Path,
    bit_depth: int,
) -> dict[str, Any]:
    """Leave out images that the evaluation skipped: without detections, and unreadable."""
    found = {detection["image_id"] for detection in detections}
    images = [
        image
        for image in truth["images"]
        if image["id"] in found
        or not read_error({**image, "file_name": image_root / image["file_name"]}, bit_depth)
    ]
    ids = {image["id"] for image in images}
    annotations = [a for a in truth["annotations"] if a["image_id"] in ids]
    return {**truth, "images": images, "annotations": annotations}
