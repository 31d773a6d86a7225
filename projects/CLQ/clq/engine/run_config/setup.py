"""Build and validate the configuration of a run, and prepare its process."""

import dataclasses
import logging
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ...config import check_config, check_training_config, check_unread_by_run, get_clq_cfg
from ...data import register_json_datasets
from ...data.records import default_class_names
from ...data.user_augmentation import import_user_functions
from ...data_report import check_training_data
from ...modeling.compile import check_backend
from ...runtime.images import allow_any_size
from ...utils.unprintable import escape_log_record
from ..distributed.elastic_restart import is_elastic_restart, record_launch_id
from ..hooks.wandb_writer import check_wandb
from ..user_errors import suppress_user_error_tracebacks
from .device import prepare_device, resolve_device
from .folder_lock import lock_folder
from .frozen_backbone import check_frozen_parts
from .merge import choices_made, find_config, merge_config
from .options import RunOptions
from .output_dir import check_inputs_stay, check_output_folder, check_writable
from .run_checks import check_annotation_files, check_batch_size, check_datasets, weigh_limits
from .scale_schedule import scale_schedule, scale_to_processes
from .weights_config import (
    check_detector,
    check_source,
    check_user_functions,
    match_input_format,
)

logger = logging.getLogger(__name__)


def setup(options: RunOptions) -> CfgNode:
    """Build the configuration, check that the run can start, and prepare this process.

    Prepared are logging, the output folder, the seeds and the device.

    Args:
        options: of the run, such as ``clq_argument_parser().parse_args()``.

    Returns:
        The frozen configuration.

    Raises:
        OSError: a file can't be read, or the output folder not be written.
        ValueError: an unknown key, a value that CLQ can't use, data with errors, or an output
            folder that holds another training run or in which another process runs.
    """
    cfg, notes = _build_config(options)
    if cfg.TEST.TILE:
        allow_any_size()
    check_annotation_files(cfg, eval_only=options.eval_only)
    check_inputs_stay(cfg, eval_only=options.eval_only, resume=options.resume)
    if not options.eval_only:
        notes += _check_training(cfg, options)
    check_writable(Path(cfg.OUTPUT_DIR))
    if comm.is_main_process():
        lock_folder(Path(cfg.OUTPUT_DIR))
    if not options.eval_only:
        record_launch_id(options.place, Path(cfg.OUTPUT_DIR))
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="clq")
    default_setup(cfg, dataclasses.replace(options, config_file=find_config(options.config_file)))
    for name in ("clq", "detectron2", "fvcore"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(escape_log_record)
    prepare_device(cfg)
    if not options.debug:
        suppress_user_error_tracebacks()
    if cfg.MODEL.DEVICE == "cpu":
        reason = "" if torch.cuda.is_available() else ", since this machine has no CUDA"
        logger.info("Running on CPU with %d threads%s.", torch.get_num_threads(), reason)
    for note in notes:
        logger.info(note)
    return cfg


def build_config(options: RunOptions) -> CfgNode:
    """Build the frozen configuration of a run, and register its data sets.

    Raises:
        OSError: a file can't be read.
        ValueError: an unknown key, or a value that CLQ can't use.
    """
    return _build_config(options)[0]


def find_device(options: RunOptions) -> str:
    """``MODEL.DEVICE`` of a run, found without looking at its data.

    Raises:
        OSError: a file can't be read.
        ValueError: an unknown key, or a device that this machine lacks.
    """
    cfg = get_clq_cfg()
    merge_config(cfg, options)
    resolve_device(cfg, options)
    return cfg.MODEL.DEVICE


def train_class_names(cfg: CfgNode) -> list[str]:
    """Class names of the first data set that is trained on, by index."""
    names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes")
    return list(names or default_class_names(cfg.MODEL.CLQ.NUM_CLASSES))


def _build_config(options: RunOptions) -> tuple[CfgNode, list[str]]:
    """The frozen configuration, and notes for the log."""
    cfg = get_clq_cfg()
    weights = merge_config(cfg, options)
    notes = choices_made(options) + _resume_after_restart(cfg, options)
    check_source(cfg, weights, options)
    notes += match_input_format(cfg, weights, options.given)
    resolve_device(cfg, options)
    register_json_datasets(cfg)
    for key in ("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "MODEL.CLQ.NUM_CLASSES"):
        if key in options.given:  # which goes before what the data tells
            cfg.merge_from_list([key, options.given[key]])
    check_config(cfg)
    before = get_clq_cfg()
    if weights and weights.config and not options.config_file:
        before.merge_from_other_cfg(weights.config)
    check_unread_by_run(cfg, before, options.given, eval_only=options.eval_only)
    check_datasets(cfg, eval_only=options.eval_only)
    notes += check_detector(cfg, weights, options)
    if not options.eval_only:
        check_batch_size(cfg, options.world_size)
        cfg, scaled = scale_to_processes(cfg, options.world_size)
        notes += scaled + scale_schedule(cfg, options.given)
    notes += weigh_limits(cfg, eval_only=options.eval_only)
    cfg.freeze()
    return cfg, notes


def _resume_after_restart(cfg: CfgNode, options: RunOptions) -> list[str]:
    """Set ``options.resume`` where torchrun runs the same command again; a note for the log."""
    if options.resume or options.eval_only:
        return []
    if not is_elastic_restart(options.place, Path(cfg.OUTPUT_DIR)):
        return []
    options.resume = True
    return ["torchrun has started the processes anew, so the training resumes as with --resume."]


def _check_training(cfg: CfgNode, options: RunOptions) -> list[str]:
    """Reject what can't be switched on here, data with errors, and another run's folder."""
    check_training_config(cfg)
    check_user_functions(cfg, options)
    import_user_functions(cfg.INPUT.AUGMENTATIONS)
    check_frozen_parts(cfg, resume=options.resume)
    if cfg.MODEL.COMPILE.ENABLED:
        check_backend(cfg.MODEL.COMPILE.BACKEND)
    if cfg.WANDB.ENABLED:
        check_wandb()
    notes = check_training_data(cfg)
    return notes + check_output_folder(cfg, train_class_names(cfg), resume=options.resume)
