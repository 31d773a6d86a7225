"""Data sets, and what training does to their images; importing registers the demo data."""

from .augmentation import build_train_augmentations
from .checks.report import DataReport, check_training_data, report_data
from .coco_json import CocoFiles, register_coco_json
from .datasets import register_json_datasets
from .loader import TestBatches, TrainBatches
from .mapper import CLQMapper
from .trees import prepare_trees, register_trees

__all__ = [
    "CLQMapper",
    "CocoFiles",
    "DataReport",
    "TestBatches",
    "TrainBatches",
    "build_train_augmentations",
    "check_training_data",
    "prepare_trees",
    "register_coco_json",
    "register_json_datasets",
    "register_trees",
    "report_data",
]

register_trees()
