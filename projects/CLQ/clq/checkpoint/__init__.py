"""Weights in and out; importing registers the ``clq://`` addresses."""

from .checkpointer import CLQCheckpointer, CompleteCheckpointer
from .conversion import convert, write_detector
from .detector import check_finite, load_detector
from .identify import read_weights
from .mmdet import Spare
from .pretrained import register_path_handler
from .weights_file import WeightsFile

__all__ = [
    "CLQCheckpointer",
    "CompleteCheckpointer",
    "Spare",
    "WeightsFile",
    "check_finite",
    "convert",
    "load_detector",
    "read_weights",
    "write_detector",
]

register_path_handler()
