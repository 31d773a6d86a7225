"""Config validation: each refused value is told in one sentence."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import get_norm
from detectron2.modeling import BACKBONE_REGISTRY

from ..data.augmentations import AUGMENTATIONS
from ..data.user_augmentation import is_user_function
from ..modeling.candidates import CANDIDATE_RULES
from ..modeling.family import BOX_CODINGS, CLASS_LOSSES, QUALITY_BRANCHES
from ..runtime.tiles import check_overlap, check_tile
from .defaults import get_clq_cfg
from .unread import UNREAD_BY_MODEL, check_other_architectures, check_unread, flatten

_CHOICES: dict[str, Collection[Any]] = {
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "DATALOADER.SAMPLER_TRAIN": (
        "TrainingSampler",
        "RepeatFactorTrainingSampler",
        "RandomSubsetTrainingSampler",
    ),
    "MODEL.BACKBONE.FREEZE_AT": range(6),  # the stem, then the four stages
    "MODEL.CLQ.BOX_CODING": BOX_CODINGS,
    "MODEL.CLQ.QUALITY": QUALITY_BRANCHES,
    "MODEL.CLQ.CLASS_LOSS": CLASS_LOSSES,
    "MODEL.CLQ.CLASS_TARGET": ("iou", "hard"),
    "MODEL.CLQ.CANDIDATE_RULE_TEST": CANDIDATE_RULES,
    "MODEL.RESNETS.DEPTH": (18, 34, 50, 101, 152),
    "SOLVER.AMP.PRECISION": ("float16", "bfloat16"),
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
    "TEST.AUG.MERGE": ("nms", "vote"),
    "TEST.EVALUATOR": ("hotcoco", "pycocotools"),
}

# The smallest and the largest value that makes sense; a list of values has the range for each.
# Memory or time grow with some keys, and a network can't compute with other values of some.
_RANGES: dict[str, tuple[float, float]] = {
    "DATALOADER.NUM_WORKERS": (0, 1024),
    "INPUT.MAX_SIZE_TEST": (1, 65536),
    "INPUT.MAX_SIZE_TRAIN": (1, 65536),
    "INPUT.MIN_SIZE_TEST": (0, 65536),
    "INPUT.MIN_SIZE_TRAIN": (0, 65536),
    "MODEL.CLQ.ALPHA": (0, 1),
    "MODEL.CLQ.ATSS_TOPK": (1, math.inf),
    "MODEL.CLQ.NMS_THRESH_TEST": (0, 1),
    "MODEL.CLQ.NUM_CLASSES": (1, 100_000),
    "MODEL.CLQ.NUM_CONVS": (0, 64),
    "MODEL.CLQ.NUM_GROUPS": (1, math.inf),
    "MODEL.CLQ.OFFSET_GROUPS": (1, math.inf),
    "MODEL.CLQ.REG_MAX": (1, 1024),
    "MODEL.CLQ.TOPK_CANDIDATES_TEST": (1, 10_000_000),
    "MODEL.FPN.OUT_CHANNELS": (1, 8192),
    "MODEL.PIXEL_MEAN": (-1e6, 1e6),
    "MODEL.PIXEL_STD": (1e-6, 1e6),
    "MODEL.RESNETS.NUM_GROUPS": (1, 8192),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": (1, 8192),
    "MODEL.RESNETS.RES5_DILATION": (1, 2),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": (1, 8192),
    "MODEL.RESNETS.WIDTH_PER_GROUP": (1, 8192),
    "MODEL.TIMM.DROP_PATH_RATE": (0, 0.99),
    "SOLVER.ACCUMULATION.MICRO_BATCHES": (1, math.inf),
    "SOLVER.CHECKPOINT_PERIOD": (1, math.inf),
    "SOLVER.EARLY_STOPPING.MIN_GAIN": (0, math.inf),
    "SOLVER.EARLY_STOPPING.PATIENCE": (0, math.inf),
    "SOLVER.IMS_PER_BATCH": (0, 1_000_000),
    "SOLVER.MAX_ITER": (1, math.inf),
    "TEST.AUG.MAX_SIZE": (1, 65536),
    "TEST.AUG.MIN_SIZES": (0, 65536),
    "TEST.DETECTIONS_PER_IMAGE": (1, 10_000_000),
}


def check_config(cfg: CfgNode) -> None:
    """Refuse values that no detector and no run could use, before anything is built.

    Raises:
        ValueError: a key of another architecture was changed, a value is out of its range, or
            nothing reads it.
    """
    values, default_values = dict(flatten(cfg)), dict(flatten(get_clq_cfg()))
    check_other_architectures(values, default_values)
    for key, choices in _CHOICES.items():
        _check_choice(key, values[key], choices)
    for key, (smallest, largest) in _RANGES.items():
        _check_range(key, values[key], smallest, largest)
    _check_ranges(cfg)
    _check_network(cfg)
    check_unread(UNREAD_BY_MODEL, values, default_values)
    _check_combinations(cfg)


def check_training_config(cfg: CfgNode) -> None:
    """Refuse what no training could use, beside what :func:`check_config` refuses.

    Args:
        cfg: with the data sets of the run, which a configuration inside a checkpoint lacks.

    Raises:
        ValueError: naming the key and its value.
    """
    if cfg.MODEL.FAST_INFERENCE:
        raise ValueError(
            "MODEL.FAST_INFERENCE is True, but trainings don't use it; give it with --eval-only."
        )
    stages = cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE
    if cfg.DETERMINISTIC and any(stages) and cfg.MODEL.DEVICE.split(":")[0] == "cuda":
        raise ValueError(
            f"DETERMINISTIC is True, but MODEL.RESNETS.DEFORM_ON_PER_STAGE is {list(stages)}, and "
            "deformable stages train in no fixed order on a GPU; set DETERMINISTIC to False or "
            "all stages to False."
        )
    _check_augmentations(cfg.INPUT.AUGMENTATIONS)
    schedulers = ["WarmupMultiStepLR", "WarmupCosineLR"]
    if "NUM_DECAYS" in cfg.SOLVER:  # its key; the release v0.6 has neither
        schedulers.append("WarmupStepWithFixedGammaLR")
    _check_choice("SOLVER.LR_SCHEDULER_NAME", cfg.SOLVER.LR_SCHEDULER_NAME, schedulers)
    patience = cfg.SOLVER.EARLY_STOPPING.PATIENCE
    evaluating = {
        "SOLVER.EARLY_STOPPING.PATIENCE": patience,
        "SOLVER.KEEP_BEST": cfg.SOLVER.KEEP_BEST,
        "TEST.VALIDATION_LOSS": cfg.TEST.VALIDATION_LOSS,
        "VIS_PERIOD": max(cfg.VIS_PERIOD, 0),
    }
    for key, value in evaluating.items():
        if value and not cfg.DATASETS.TEST:
            raise ValueError(
                f"{key} is {value}, but there is no data to evaluate on; give some by --val or "
                "DATASETS.TEST."
            )
    if patience and cfg.TEST.EVAL_PERIOD < 1:
        raise ValueError(
            f"SOLVER.EARLY_STOPPING.PATIENCE is {patience}, but with TEST.EVAL_PERIOD "
            f"{cfg.TEST.EVAL_PERIOD} only the end is evaluated; set it to some iterations."
        )


def _check_augmentations(names: Sequence[Any]) -> None:
    known = [name for name, _ in AUGMENTATIONS]
    for name in names:
        if not isinstance(name, str) or not (name in known or is_user_function(name)):
            raise ValueError(
                f"INPUT.AUGMENTATIONS has {name!r}; it takes {', '.join(map(repr, known))}, and "
                "functions of your own as 'module:function'."
            )
        if names.count(name) > 1:
            raise ValueError(f"INPUT.AUGMENTATIONS has {name!r} twice; give it once.")


def _check_choice(key: str, value: Any, choices: Collection[Any]) -> None:
    if value not in choices:
        allowed = " or ".join(map(repr, choices))
        raise ValueError(f"{key} is {value!r}; it must be {allowed}.")


def _check_range(key: str, value: Any, smallest: float, largest: float) -> None:
    """Refuse numbers out of a range, and those that are not a number."""
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(n, (int, float)) and smallest <= n <= largest for n in numbers):
        is_bounded = largest < math.inf
        allowed = f"lie in [{smallest:g}, {largest:g}]" if is_bounded else f"be at least {smallest}"
        raise ValueError(f"{key} is {value!r:.80}; it must {allowed}.")


def _check_ranges(cfg: CfgNode) -> None:
    if not 0 <= cfg.SOLVER.EMA.DECAY < 1:
        raise ValueError(f"SOLVER.EMA.DECAY is {cfg.SOLVER.EMA.DECAY}; it must lie in [0, 1).")
    if not 1 <= cfg.INPUT.BIT_DEPTH <= 32:
        raise ValueError(
            f"INPUT.BIT_DEPTH is {cfg.INPUT.BIT_DEPTH}; it must lie in [1, 32], such as 12 or 16."
        )
    for key, lengths in (
        ("INPUT.MIN_SIZE_TRAIN", cfg.INPUT.MIN_SIZE_TRAIN),
        ("TEST.AUG.MIN_SIZES", cfg.TEST.AUG.MIN_SIZES),
    ):
        if not lengths:
            raise ValueError(
                f"{key} is empty; give lengths of the shorter side in pixels, such as (800,)."
            )
    if any(type(length) is not int for length in cfg.TEST.AUG.MIN_SIZES):
        raise ValueError(
            f"TEST.AUG.MIN_SIZES is {tuple(cfg.TEST.AUG.MIN_SIZES)!r}; it must be whole numbers of "
            "pixels."
        )
    check_tile(cfg.TEST.TILE)
    check_overlap(cfg.TEST.TILE_OVERLAP)
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(sizes) != 2:
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN is {tuple(sizes)}; with INPUT.MIN_SIZE_TRAIN_SAMPLING 'range' "
            "it must be the least and the greatest length of the shorter side, such as (480, 800)."
        )


def _check_network(cfg: CfgNode) -> None:
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    for key in ("NUM_GROUPS", "OFFSET_GROUPS"):
        if channels % cfg.MODEL.CLQ[key]:
            raise ValueError(
                f"MODEL.FPN.OUT_CHANNELS is {channels}; it must be a multiple of "
                f"MODEL.CLQ.{key} = {cfg.MODEL.CLQ[key]}."
            )
    if cfg.MODEL.BACKBONE.NAME not in BACKBONE_REGISTRY:
        raise ValueError(
            f"MODEL.BACKBONE.NAME is '{cfg.MODEL.BACKBONE.NAME}', which nothing has registered; "
            "CLQ has 'build_clq_resnet_fpn_backbone', 'build_timm_fpn_backbone' and "
            "'build_torchvision_fpn_backbone'."
        )
    resnets = cfg.MODEL.RESNETS
    try:
        get_norm(resnets.NORM, 32)
    except KeyError:
        raise ValueError(
            f"MODEL.RESNETS.NORM is '{resnets.NORM}'; it must be a norm of Detectron2, such as "
            "'BN', 'SyncBN', 'FrozenBN' or 'GN'."
        ) from None
    if resnets.DEPTH < 50 and resnets.RES2_OUT_CHANNELS != 64:
        raise ValueError(
            f"MODEL.RESNETS.DEPTH is {resnets.DEPTH}, which needs MODEL.RESNETS.RES2_OUT_CHANNELS "
            f"64, not {resnets.RES2_OUT_CHANNELS}."
        )
    if cfg.MODEL.DEVICE.split(":")[0] == "meta":
        raise ValueError(
            f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', where tensors have no values; use cpu or cuda."
        )


def _check_combinations(cfg: CfgNode) -> None:
    """Refuse keys that do not go together."""
    resnets = cfg.MODEL.RESNETS
    if resnets.TRAIN_NORM_AFFINE and cfg.MODEL.BACKBONE.NAME != "build_clq_resnet_fpn_backbone":
        raise ValueError(
            "MODEL.RESNETS.TRAIN_NORM_AFFINE is True, but only build_clq_resnet_fpn_backbone reads "
            f"it, and MODEL.BACKBONE.NAME is '{cfg.MODEL.BACKBONE.NAME}'."
        )
    if resnets.TRAIN_NORM_AFFINE and resnets.NORM != "FrozenBN":
        raise ValueError(
            f"MODEL.RESNETS.NORM is '{resnets.NORM}', but MODEL.RESNETS.TRAIN_NORM_AFFINE holds "
            "the statistics; leave NORM at 'FrozenBN'."
        )
    if cfg.SOLVER.REFERENCE_WORLD_SIZE and cfg.SOLVER.REFERENCE_BATCH_SIZE:
        raise ValueError(
            f"SOLVER.REFERENCE_WORLD_SIZE is {cfg.SOLVER.REFERENCE_WORLD_SIZE}, but "
            f"SOLVER.REFERENCE_BATCH_SIZE = {cfg.SOLVER.REFERENCE_BATCH_SIZE} scales the schedule "
            "already; set one of them to 0."
        )
