"""From the command line to a checked configuration with its data sets registered."""

import argparse
import logging
import os

import torch

from clq.config import check_config, get_clq_cfg
from clq.data import register_json_datasets
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

logger = logging.getLogger(__name__)


def clq_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Detectron2's arguments, and ``--train``, ``--val`` and ``--debug``."""
    parser = default_argument_parser(epilog)
    pair = {"nargs": 2, "metavar": ("JSON", "IMAGES"), "default": ()}
    parser.add_argument("--train", **pair, help="train on this COCO json and image folder")
    parser.add_argument("--val", **pair, help="evaluate on this COCO json and image folder")
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error in the input too"
    )
    return parser


def build_config(args: argparse.Namespace) -> CfgNode:
    """The frozen configuration that the arguments ask for; registers its data sets.

    Args:
        args: of :func:`clq_argument_parser`.

    Raises:
        KeyError: an unknown key.
        OSError: a file that can't be read.
        ValueError: a value that CLQ can't use.
    """
    cfg = get_clq_cfg()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.DATASETS.TRAIN_JSON = tuple(args.train) or cfg.DATASETS.TRAIN_JSON
    cfg.DATASETS.VAL_JSON = tuple(args.val) or cfg.DATASETS.VAL_JSON
    cfg.merge_from_list(args.opts)
    _use_available_device(cfg, device_was_asked_for="MODEL.DEVICE" in args.opts)
    register_json_datasets(cfg)
    check_config(cfg)
    _check_class_count(cfg)
    cfg.freeze()
    return cfg


def setup(args: argparse.Namespace) -> CfgNode:
    """:func:`build_config`, then Detectron2's logging, output folder and seeds."""
    # PyTorch then backs large CPU tensors by huge pages: fewer page faults, a faster step. It reads
    # the variable at its first allocation, so it must stand before any tensor does.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    cfg = build_config(args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="clq")
    default_setup(cfg, args)
    if cfg.MODEL.DEVICE == "cpu":
        logger.info("Running on CPU with %d threads.", torch.get_num_threads())
    return cfg


def _use_available_device(cfg: CfgNode, *, device_was_asked_for: bool) -> None:
    if not cfg.MODEL.DEVICE.startswith("cuda") or torch.cuda.is_available():
        return
    if device_was_asked_for:
        raise ValueError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but this machine has no CUDA; "
            "leave the key out to run on CPU."
        )
    cfg.MODEL.DEVICE = "cpu"


def _check_class_count(cfg: CfgNode) -> None:
    """Refuse data whose number of classes is not the model's.

    Raises:
        ValueError: naming the data set and both numbers.
    """
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        classes = MetadataCatalog.get(name).get("thing_classes")
        if classes is not None and len(classes) != cfg.MODEL.CLQ.NUM_CLASSES:
            raise ValueError(
                f"MODEL.CLQ.NUM_CLASSES is {cfg.MODEL.CLQ.NUM_CLASSES}, but the data set '{name}' "
                f"has {len(classes)} classes."
            )
