"""From the command line to a checked configuration with its data sets registered."""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from ...checkpoint import WeightsFile, list_checkpoints, normalize_path
from ...config import check_config, check_training_config, get_clq_cfg
from ...data import register_json_datasets
from ...data_report import check_training_data
from ...modeling.compile import check_backend
from ..distributed.elastic_restart import is_elastic_restart, record_launch_id
from ..hooks.wandb_writer import check_wandb
from ..user_errors import suppress_user_error_tracebacks
from .config_errors import explain_refusals
from .output_dir import check_output_folder, check_writable
from .scale_schedule import scale_schedule
from .weights_config import (
    check_classes,
    compare_with_weights,
    fit_pixels_to_weights,
    named_weights,
    note_on_unknown_pixels,
    reason_for_no_config,
)

logger = logging.getLogger(__name__)


def clq_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Detectron2's arguments, and ``--train``, ``--val`` and ``--debug``."""
    parser = default_argument_parser(epilog)
    parser.set_defaults(place=None)  # of this process, if another program started it
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
        OSError: a file that can't be read.
        ValueError: an unknown key, or a value that CLQ can't use.
    """
    return _build_config(args)[0]


def _build_config(args: argparse.Namespace) -> tuple[CfgNode, list[str]]:
    """The frozen configuration, and what was decided on the way, for the log."""
    cfg = get_clq_cfg()
    notes: list[str | None] = []
    weights = _merge(cfg, args)
    notes.append(_resume_if_restarted(cfg, args))
    _check_weights_exist(cfg, args)
    if cfg.MODEL.META_ARCHITECTURE != "CLQ":
        if cfg.MODEL.WEIGHTS and not args.config_file and not (weights and weights.config):
            raise ValueError(reason_for_no_config(cfg.MODEL.WEIGHTS, weights))
        raise ValueError(
            f"MODEL.META_ARCHITECTURE is '{cfg.MODEL.META_ARCHITECTURE}', not CLQ; "
            "name a config of CLQ by --config-file, or a checkpoint with one by MODEL.WEIGHTS."
        )
    notes.append(fit_pixels_to_weights(cfg, weights, given=args.opts[::2]))
    notes.append(note_on_unknown_pixels(cfg, weights, given=args.opts[::2]))
    _use_available_device(cfg, args)
    num_classes = cfg.MODEL.CLQ.NUM_CLASSES
    register_json_datasets(cfg)
    if "MODEL.CLQ.NUM_CLASSES" in args.opts:
        cfg.MODEL.CLQ.NUM_CLASSES = num_classes  # the check below compares it with the data
    check_config(cfg)
    _check_datasets(cfg, eval_only=args.eval_only)
    if weights and weights.kind == "detector":
        notes += _check_detector(cfg, args, weights)
    if not args.eval_only:
        _check_batch_size(cfg, _number_of_processes(args))
        notes.append(scale_schedule(cfg, given=args.opts[::2]))
    cfg.freeze()
    return cfg, [note for note in notes if note]


def device_of(args: argparse.Namespace) -> str:
    """``MODEL.DEVICE`` of the configuration that the arguments ask for; looks at no data.

    Args:
        args: of :func:`clq_argument_parser`.

    Raises:
        OSError: a file that can't be read.
        ValueError: an unknown key, or a device that this machine lacks.
    """
    cfg = get_clq_cfg()
    _merge(cfg, args)
    _use_available_device(cfg, args)
    return cfg.MODEL.DEVICE


def _number_of_processes(args: argparse.Namespace) -> int:
    """Number of processes of the run, whatever starts them."""
    return args.place.world_size if args.place else max(args.num_machines * args.num_gpus, 1)


def _resume_if_restarted(cfg: CfgNode, args: argparse.Namespace) -> str | None:
    """Set ``--resume`` where torchrun runs the same command again; a sentence for the log."""
    if args.resume or args.eval_only or not is_elastic_restart(args.place, Path(cfg.OUTPUT_DIR)):
        return None
    args.resume = True
    return "torchrun has started the processes anew, so the training goes on as with --resume."


def _check_weights_exist(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Refuse a file of weights that is not there, unless a checkpoint takes its place.

    Raises:
        ValueError: naming the file.
    """
    path = normalize_path(cfg.MODEL.WEIGHTS)
    if not path or "://" in path or os.path.isfile(path):
        return
    if args.eval_only or not (args.resume and list_checkpoints(Path(cfg.OUTPUT_DIR))):
        raise ValueError(f"the weights {cfg.MODEL.WEIGHTS} do not exist.")


def _check_detector(cfg: CfgNode, args: argparse.Namespace, weights: WeightsFile) -> list[str]:
    """Refuse a detector that does not go with the configuration or the data, and note the rest."""
    # Where the numbers of classes differ, the checkpointer refuses them.
    names_tell = bool(weights.class_names) and weights.num_classes == cfg.MODEL.CLQ.NUM_CLASSES
    if args.eval_only and (names_tell or not args.config_file):
        for name in cfg.DATASETS.TEST:
            check_classes(weights, cfg.MODEL.WEIGHTS, name)
    return compare_with_weights(
        cfg,
        weights,
        given=args.opts[::2],
        has_file=bool(args.config_file),
        trains=not args.eval_only,
    )


def setup(args: argparse.Namespace) -> CfgNode:
    """:func:`build_config`, then Detectron2's logging, output folder and seeds."""
    cfg, notes = _build_config(args)
    if cfg.MODEL.DEVICE.startswith("cuda:"):
        torch.cuda.set_device(cfg.MODEL.DEVICE)  # else some operators would use the first one too
    _check_annotation_files(cfg.DATASETS.TEST if args.eval_only else _all_datasets(cfg))
    if not args.eval_only:
        notes += _check_training(cfg, args)
    check_writable(Path(cfg.OUTPUT_DIR))
    if not args.eval_only:
        record_launch_id(args.place, Path(cfg.OUTPUT_DIR))
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="clq")
    default_setup(cfg, args)
    if cfg.DETERMINISTIC:
        _be_deterministic()
    if not args.debug:
        suppress_user_error_tracebacks()
    if cfg.MODEL.DEVICE == "cpu":
        reason = "" if torch.cuda.is_available() else ", since this machine has no CUDA"
        logger.info("Running on CPU with %d threads%s.", torch.get_num_threads(), reason)
    for note in notes:
        logger.info(note)
    return cfg


def _check_training(cfg: CfgNode, args: argparse.Namespace) -> list[str]:
    """Refuse what can't be switched on here, data with faults, and another training's folder."""
    check_training_config(cfg)
    if cfg.MODEL.COMPILE.ENABLED:
        check_backend(cfg.MODEL.COMPILE.BACKEND)
    if cfg.WANDB.ENABLED:
        check_wandb()
    notes = check_training_data(cfg)
    resumes = check_output_folder(cfg, names_of_training(cfg), resume=args.resume)
    return [*notes, *([resumes] if resumes else [])]


def names_of_training(cfg: CfgNode) -> list[str]:
    """Class names of the first data set that is trained on, by index."""
    names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes")
    return list(names or (f"class_{k}" for k in range(cfg.MODEL.CLQ.NUM_CLASSES)))


def _be_deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands a fixed workspace
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def _merge(cfg: CfgNode, args: argparse.Namespace) -> WeightsFile | None:
    """Fill in the config file, then the command line.

    Without a config file, the one inside the weights takes its place.

    Returns:
        What the weights hold, if they are at hand.
    """
    late = [text for text in args.opts if text.startswith("--")]
    if late:
        raise ValueError(f"{late[0]} stands among the configuration keys; put it before them.")
    if len(args.opts) % 2:
        raise ValueError(
            f"configuration keys and values must come in pairs, but '{args.opts[-1]}' is left over."
        )
    if args.config_file:
        with explain_refusals(cfg, file=args.config_file):
            cfg.merge_from_file(args.config_file, allow_unsafe=False)  # or it could run code
    weights = named_weights(cfg, args)
    if weights and weights.config and not args.config_file:
        with explain_refusals(cfg, file=cfg.MODEL.WEIGHTS):
            cfg.merge_from_other_cfg(weights.config)
    cfg.DATASETS.TRAIN_JSON = tuple(args.train) or cfg.DATASETS.TRAIN_JSON
    cfg.DATASETS.VAL_JSON = tuple(args.val) or cfg.DATASETS.VAL_JSON
    with explain_refusals(cfg, keys=args.opts[::2]):
        cfg.merge_from_list(args.opts)
    return weights


def _use_available_device(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Take the CPU where there is no CUDA, unless the command line asks for CUDA.

    Raises:
        ValueError: naming a device that there is not, or that several processes can't share.
    """
    name, num_processes = cfg.MODEL.DEVICE, _number_of_processes(args)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"MODEL.DEVICE is '{name}'; it must be a device of PyTorch, such as cpu or cuda."
        ) from None
    if device.type != "cuda":
        return
    if cfg.MODEL.FAST_INFERENCE:
        if "MODEL.DEVICE" in args.opts:
            raise ValueError(
                f"MODEL.FAST_INFERENCE is for CPU, but MODEL.DEVICE is {name}; leave one of them "
                "out."
            )
        cfg.MODEL.DEVICE = "cpu"
        return
    if not torch.cuda.is_available():
        if "MODEL.DEVICE" in args.opts:
            raise ValueError(
                f"MODEL.DEVICE is {name}, but this machine has no CUDA; leave the key out to run "
                "on CPU."
            )
        cfg.MODEL.DEVICE = "cpu"
    elif device.index is not None and num_processes > 1:
        raise ValueError(
            f"MODEL.DEVICE is {name}, but each of the {num_processes} processes takes a GPU of "
            "its own; say cuda."
        )


def _check_datasets(cfg: CfgNode, *, eval_only: bool) -> None:
    """Refuse data that is not there, or whose number of classes is not the model's.

    Raises:
        ValueError: naming the key or the data set.
    """
    key, flag = ("TEST", "--val") if eval_only else ("TRAIN", "--train")
    if not cfg.DATASETS[key]:
        raise ValueError(
            f"DATASETS.{key} names no data set, or --train and --val replaced it; "
            f"give one by {flag}."
        )
    for name in _all_datasets(cfg):
        if name not in DatasetCatalog.list():
            raise ValueError(
                f"there is no data set of the name '{name}'; --train and --val take any COCO json."
            )
        classes = MetadataCatalog.get(name).get("thing_classes")
        if classes is not None and len(classes) != cfg.MODEL.CLQ.NUM_CLASSES:
            raise ValueError(
                f"MODEL.CLQ.NUM_CLASSES is {cfg.MODEL.CLQ.NUM_CLASSES}, but the data set '{name}' "
                f"has {len(classes)} classes."
            )


def _check_annotation_files(names: Sequence[str]) -> None:
    """Refuse data sets of Detectron2's own catalog that are not on this machine.

    Raises:
        ValueError: naming the data set and its file.
    """
    for name in names:
        json_file = MetadataCatalog.get(name).get("json_file")
        if json_file is not None and not PathManager.isfile(json_file):
            raise ValueError(
                f"the data set '{name}' has no {json_file}; set DETECTRON2_DATASETS to the folder "
                "that holds it, or name your own data by --train and --val."
            )


def _all_datasets(cfg: CfgNode) -> tuple[str, ...]:
    return (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)


def _check_batch_size(cfg: CfgNode, num_processes: int) -> None:
    """Refuse a batch that can't be shared out evenly.

    Raises:
        ValueError: naming the batch size.
    """
    batch_size, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION.MICRO_BATCHES
    scaled = cfg.SOLVER.REFERENCE_WORLD_SIZE > 0  # Detectron2 then fits the batch to the processes
    if batch_size < 1 or (batch_size % num_processes and not scaled):
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}; it must be positive and a multiple of the "
            f"number of processes, {num_processes}."
        )
    if batch_size // num_processes % parts:
        raise ValueError(
            f"SOLVER.ACCUMULATION.MICRO_BATCHES is {parts}, but of SOLVER.IMS_PER_BATCH = "
            f"{batch_size} each of {num_processes} processes has {batch_size // num_processes} "
            "images, which that does not divide."
        )
