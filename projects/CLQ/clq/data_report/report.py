"""Data set report: errors that prevent training, and warnings.

Letters: K categories, N images.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..data.coco.findings import Finding, add_hint, describe_errors, finding_on_file, make_warnings
from ..data.coco.register import CocoFiles, class_difference
from ..data.coco.table import CocoTable, evenly_spaced
from ..data.coco.validate import load_and_validate
from .anchor_coverage import DetectorScale, check_matches, check_scale, scale_objects
from .annotation_health import check_health
from .contradictions import check_contradictions, check_repeated_images
from .image_checks import check_images, decode, read_header


class ReportScope(NamedTuple):
    """Part of a data set to check, besides the annotations and the existence of files.

    Attributes:
        num_images: number of images to read, evenly spaced; None reads all.
        num_matched: number of those to match with anchors.
        decodes: decode images instead of reading only their headers.
    """

    num_images: int | None = None
    num_matched: int = 2000
    decodes: bool = True


# At the start of training; tools/check_data.py checks everything.
_QUICK_SCAN = ReportScope(num_images=200, num_matched=50, decodes=False)

# Warnings about evaluation data in the training log; all others matter only for training data.
_TEST_WARNINGS = (
    "boxes_of_another_form",
    "crowded_images",
    "label_without_image",
    "missing_image",
    "no_object",
    "no_xml",
    "other_file_name",
    "repeated_image",
    "rotated_boxes",
    "training_images",
    "unreadable_image",
    "wrong_size",
)
# Warnings in the training log only above this share of objects.
_SHARE_WARNINGS = (
    "boxes_beyond_border",
    "small_objects",
    "beyond_reg_max",
    "objects_without_anchor",
)
_MIN_SHARE = 0.01


class DataReport(NamedTuple):
    """Errors and warnings about a data set.

    Attributes:
        files: the data set.
        class_names: K of them.
        class_counts: objects of each class, crowd regions left out, (K,).
        image_paths: N of them.
        num_read: number of images that were read.
        num_matched: number of images that were matched with anchors.
        findings: errors first.
    """

    files: CocoFiles
    class_names: list[str]
    class_counts: list[int]
    image_paths: list[str]
    num_read: int
    num_matched: int
    findings: list[Finding]

    @property
    def num_images(self) -> int:
        return len(self.image_paths)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_error]


def report_data(
    files: CocoFiles,
    cfg: CfgNode,
    scale: DetectorScale,
    *,
    scope: ReportScope = ReportScope(),
    for_training: bool = True,
    train_classes: Sequence[str] = (),
    train_paths: Sequence[str] = (),
) -> DataReport:
    """Check a data set.

    Args:
        files: of the data set.
        cfg: reads ``DATALOADER.SKIP_UNREADABLE``, ``FILTER_EMPTY_ANNOTATIONS``,
            ``INPUT.BIT_DEPTH`` and ``TEST.DETECTIONS_PER_IMAGE``.
        scale: of the detector.
        scope: part of the data set to check.
        for_training: False for a data set that is only evaluated.
        train_classes: classes that it must have; empty for any.
        train_paths: image files to train on, which it should not have.
    """
    table = load_and_validate(*files, needs_labels=for_training)
    findings = [*table.errors, *table.warnings] + _check_presence(table, for_training)
    findings += _check_classes(table, train_classes)
    images = check_images(
        table,
        files.image_root,
        evenly_spaced(len(table.file_names), scope.num_images),
        partial(decode if scope.decodes else read_header, bit_depth=cfg.INPUT.BIT_DEPTH),
        skips_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
    )
    if table.file_names:
        findings += images.findings
    findings += check_health(table, keeps_empty=not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    findings += check_contradictions(table)
    # Contents only where everything is read: file names are enough for the start of a training run.
    findings += check_repeated_images(
        table, files.image_root, train_paths, by_content=scope.decodes
    )
    findings += _check_crowded(table, cfg.TEST.DETECTIONS_PER_IMAGE)
    objects = scale_objects(table, scale)
    findings += check_scale(table, objects, scale)
    unmatched, num_matched = check_matches(
        table, objects, scale, images.usable, limit=scope.num_matched
    )
    findings += unmatched
    return DataReport(
        files,
        table.class_names,
        np.bincount(table.classes[table.objects], minlength=len(table.class_names)).tolist(),
        table.image_paths(files.image_root),
        images.num_read,
        num_matched,
        sorted(findings, key=lambda finding: not finding.is_error),
    )


def check_training_data(cfg: CfgNode) -> list[str]:
    """Check the data sets of a training run in about a second, besides reading the annotations.

    Args:
        cfg: whose ``DATASETS.TRAIN`` and ``TEST`` are registered; those without files are
            skipped.

    Returns:
        The warnings, one line each.

    Raises:
        ValueError: one sentence on the errors of the first data set that has any.
    """
    warnings: list[str] = []
    train_classes: list[str] = []
    train_paths: list[str] = []
    scale: DetectorScale | None = None
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        files, for_training = _coco_files(name), name in cfg.DATASETS.TRAIN
        if files is None:
            continue
        scale = scale or DetectorScale.from_config(cfg)
        scope = _QUICK_SCAN if for_training else _QUICK_SCAN._replace(num_matched=0)
        report = report_data(
            files,
            cfg,
            scale,
            scope=scope,
            for_training=for_training,
            train_classes=train_classes,
            train_paths=[] if for_training else train_paths,
        )
        if report.errors:
            sentence = describe_errors(report.errors, files.json_file)
            raise ValueError(add_hint(sentence, *files) if report.num_images else sentence)
        train_paths += report.image_paths if for_training else []
        train_classes = train_classes or (report.class_names if for_training else [])
        warnings += [
            f"{name}: {warning.sentence}."
            for warning in report.warnings
            if _is_logged(warning, for_training)
        ]
    return warnings


def _coco_files(name: str) -> CocoFiles | None:
    """Find the annotations and the image folder of a data set in Detectron2's catalog, if any."""
    metadata = MetadataCatalog.get(name)
    json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
    if metadata.get("evaluator_type") != "coco" or not json_file or not image_root:
        return None
    return CocoFiles(*(Path(PathManager.get_local_path(path)) for path in (json_file, image_root)))


def _is_logged(warning: Finding, for_training: bool) -> bool:
    if not for_training:
        return warning.kind in _TEST_WARNINGS
    is_rare = warning.count <= _MIN_SHARE * (warning.total or 0)
    return not (is_rare and warning.kind in _SHARE_WARNINGS)


def _check_presence(table: CocoTable, for_training: bool) -> list[Finding]:
    """Report data without a single object, unless an error explains that."""
    if table.is_trained_on().any() or table.errors:
        return []
    purpose = "train on" if for_training else "find"
    what, predicate = "annotation files without an object", f"has no object to {purpose}"
    return [finding_on_file("no_object", what, predicate, is_error=for_training)]


def _check_crowded(table: CocoTable, limit: int) -> list[Finding]:
    """Warn of images with more objects than a detector may find in them."""
    counts = np.bincount(table.image_idxs[table.objects], minlength=len(table.file_names))
    return make_warnings(
        "crowded_images",
        f"images with more objects than TEST.DETECTIONS_PER_IMAGE {limit}",
        np.flatnonzero(counts > limit),
        lambda row: table.image_example(row, f"has {counts[row]} objects"),
        total=len(table.file_names),
        consequence="the objects beyond are never found; raise the key",
    )


def _check_classes(table: CocoTable, train_classes: Sequence[str]) -> list[Finding]:
    """Report classes that differ from the training data's, unless an error explains that."""
    if not train_classes or table.errors:
        return []
    difference = class_difference(train_classes, table.class_names)
    if not difference:
        return []
    what = "annotation files whose classes are not those of the training data"
    predicate = f"has classes that differ from the training data's in {difference}"
    return [finding_on_file("class_mismatch", what, predicate)]
