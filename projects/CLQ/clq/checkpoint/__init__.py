"""Weights in and out; importing registers the ``clq://`` addresses."""

from ..config.serialize import dump_config, parse_config
from .checkpointer import CLQCheckpointer, CompleteCheckpointer
from .conversion import convert, write_detector
from .detector import check_finite, load_detector
from .identify import read_weights
from .mmdet import Spare
from .output_dir import (
    find_last,
    list_checkpoints,
    list_detectors,
    remove_checkpoints,
    remove_partial_files,
)
from .pixel_settings import PIXEL_KEYS, pixel_settings_of
from .pretrained import register_path_handler
from .read_file import no_weights, normalize_path
from .weights_file import WeightsFile

__all__ = [
    "CLQCheckpointer",
    "CompleteCheckpointer",
    "PIXEL_KEYS",
    "Spare",
    "WeightsFile",
    "check_finite",
    "convert",
    "dump_config",
    "find_last",
    "list_checkpoints",
    "list_detectors",
    "load_detector",
    "no_weights",
    "normalize_path",
    "parse_config",
    "pixel_settings_of",
    "read_weights",
    "register_path_handler",
    "remove_checkpoints",
    "remove_partial_files",
    "write_detector",
]

register_path_handler()
