"""The report on a data set: what would stop a training, and what is good to know before it.

Letters: K categories, N images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..data.coco.findings import Example, Finding, advise, describe_faults, find
from ..data.coco.register import CocoFiles, class_difference
from ..data.coco.table import CocoTable, evenly_spaced
from ..data.coco.validate import read_coco
from .anchor_coverage import DetectorScale, check_matches, check_scale, scale_objects
from .annotation_health import check_health
from .image_checks import check_images, decoded_size, header_size


class Depth(NamedTuple):
    """How much of a data set a report looks at; the json and the existence of files always.

    Attributes:
        num_images: number of images to read, evenly spaced; None reads all.
        num_matched: number of images to match with anchors, of those.
        decodes: whether images are decoded, or only their headers read.
    """

    num_images: int | None = None
    num_matched: int = 2000
    decodes: bool = True


# At the start of a training; the tool looks at everything.
_BRIEF = Depth(num_images=200, num_matched=50, decodes=False)

# Notes on evaluation data in the log of a training: what else can be noted matters for training.
_NOTES_ON_TEST = ("missing_image", "unreadable_image", "wrong_size", "no_object")
# Notes in that log only where they concern more than this share.
_SHARES = ("boxes_beyond_border", "small_objects", "beyond_reg_max", "objects_without_anchor")
_LEAST_SHARE = 0.01


class DataReport(NamedTuple):
    """Findings about a data set.

    Attributes:
        files: the data set.
        class_names: K of them.
        class_counts: objects of each class, crowd regions left out, (K,).
        num_images: N.
        num_read: number of images that were read.
        num_matched: number of images whose objects were matched with anchors.
        findings: faults first.
    """

    files: CocoFiles
    class_names: list[str]
    class_counts: list[int]
    num_images: int
    num_read: int
    num_matched: int
    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_fault]

    @property
    def notes(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_fault]


def report_data(
    files: CocoFiles,
    cfg: CfgNode,
    scale: DetectorScale,
    *,
    depth: Depth = Depth(),
    trains: bool = True,
    train_classes: Sequence[str] = (),
) -> DataReport:
    """Look at a data set.

    Args:
        files: of the data set.
        cfg: reads ``DATALOADER.SKIP_UNREADABLE`` and ``FILTER_EMPTY_ANNOTATIONS``.
        scale: of the detector.
        depth: how much to look at.
        trains: whether it is trained on, or only evaluated.
        train_classes: of the training data that it must agree with; empty for none.
    """
    table = read_coco(files.json_file)
    findings = table.faults + _check_presence(table, trains)
    findings += _check_classes(table, train_classes)
    images = check_images(
        table,
        files.image_root,
        evenly_spaced(len(table.file_names), depth.num_images),
        decoded_size if depth.decodes else header_size,
        skips_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
    )
    if table.file_names:
        findings += images.findings
    findings += check_health(table, keeps_empty=not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    objects = scale_objects(table, scale)
    findings += check_scale(table, objects, scale)
    unmatched, num_matched = check_matches(
        table, objects, scale, images.usable, most=depth.num_matched
    )
    findings += unmatched
    return DataReport(
        files,
        table.class_names,
        np.bincount(table.classes[table.objects], minlength=len(table.class_names)).tolist(),
        len(table.file_names),
        images.num_read,
        num_matched,
        sorted(findings, key=lambda finding: not finding.is_fault),
    )


def check_training_data(cfg: CfgNode) -> list[str]:
    """Look at the data of a training in about a second, besides reading the json.

    Args:
        cfg: whose ``DATASETS.TRAIN`` and ``TEST`` are registered; those without a COCO json are
            passed over.

    Returns:
        One line for the log on each thing that is good to know.

    Raises:
        ValueError: one sentence on the faults of the first data set that has any.
    """
    notes: list[str] = []
    train_classes: list[str] = []
    scale: DetectorScale | None = None
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        files, trains = _coco_files(name), name in cfg.DATASETS.TRAIN
        if files is None:
            continue
        scale = scale or DetectorScale.from_config(cfg)
        depth = _BRIEF if trains else _BRIEF._replace(num_matched=0)
        report = report_data(
            files, cfg, scale, depth=depth, trains=trains, train_classes=train_classes
        )
        if report.faults:
            sentence = describe_faults(report.faults, files.json_file)
            raise ValueError(advise(sentence, *files) if report.num_images else sentence)
        train_classes = train_classes or (report.class_names if trains else [])
        notes += [f"{name}: {note.sentence}." for note in report.notes if _is_logged(note, trains)]
    return notes


def _coco_files(name: str) -> CocoFiles | None:
    """The json and the image folder of a data set in Detectron2's catalog, if it has them."""
    metadata = MetadataCatalog.get(name)
    json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
    if metadata.get("evaluator_type") != "coco" or not json_file or not image_root:
        return None
    return CocoFiles(*(Path(PathManager.get_local_path(path)) for path in (json_file, image_root)))


def _is_logged(note: Finding, trains: bool) -> bool:
    if not trains:
        return note.kind in _NOTES_ON_TEST
    return note.kind not in _SHARES or note.count > _LEAST_SHARE * (note.total or 0)


def _check_presence(table: CocoTable, trains: bool) -> list[Finding]:
    """Data without a single object, unless a fault explains that."""
    if table.trains().any() or table.faults:
        return []
    purpose = "train on" if trains else "find"
    return find(
        "no_object",
        "annotation files without an object",
        [0],
        lambda _: Example("", f"has no object to {purpose}"),
        is_fault=trains,
    )


def _check_classes(table: CocoTable, train_classes: Sequence[str]) -> list[Finding]:
    """Classes that are not those of the training, unless a fault explains that."""
    if not train_classes or table.faults:
        return []
    difference = class_difference(train_classes, table.class_names)
    return find(
        "class_mismatch",
        "annotation files whose classes are not those of the training data",
        [0] if difference else [],
        lambda _: Example("", f"has classes that differ from the training data's in {difference}"),
    )
