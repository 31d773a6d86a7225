"""Data sets, and what training does to their images; importing registers the demo data."""

from .augmentation import build_train_augmentations
from .coco_json import CocoFiles, class_names, register_coco_json
from .datasets import register_json_datasets
from .trees import prepare_trees, register_trees

__all__ = [
    "CocoFiles",
    "build_train_augmentations",
    "class_names",
    "prepare_trees",
    "register_coco_json",
    "register_json_datasets",
    "register_trees",
]

register_trees()
