"""Data sets and data loading; importing this package registers the demo data."""

from .coco.datasets import register_json_datasets
from .coco.register import CocoFiles, register_coco_json
from .demo_trees import prepare_trees, register_trees
from .loader import TestLoader, TrainLoader
from .mapper import CLQMapper
from .transforms import build_train_augmentations

__all__ = [
    "CLQMapper",
    "CocoFiles",
    "TestLoader",
    "TrainLoader",
    "build_train_augmentations",
    "prepare_trees",
    "register_coco_json",
    "register_json_datasets",
    "register_trees",
]

register_trees()
