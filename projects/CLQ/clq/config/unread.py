"""Keys without an effect: of other architectures, or of a part that another key leaves out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

# Parts of Detectron2's configuration that belong to other architectures; CLQ never reads them.
SECTIONS_OF_OTHERS = (
    "MODEL.ANCHOR_GENERATOR",
    "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.MASK_ON",
    "MODEL.PANOPTIC_FPN",
    "MODEL.PROPOSAL_GENERATOR",
    "MODEL.RETINANET",
    "MODEL.ROI_BOX_CASCADE_HEAD",
    "MODEL.ROI_BOX_HEAD",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_KEYPOINT_HEAD",
    "MODEL.ROI_MASK_HEAD",
    "MODEL.RPN",
    "MODEL.SEM_SEG_HEAD",
)

# Keys and sections of what no run of CLQ does.
NOT_AVAILABLE = {
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": "CLQ takes no proposals",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": "CLQ takes no proposals",
    "DATASETS.PROPOSAL_FILES_TEST": "CLQ takes no proposals",
    "DATASETS.PROPOSAL_FILES_TRAIN": "CLQ takes no proposals",
    "GLOBAL": "CLQ has no use for it",
    "INPUT.MASK_FORMAT": "CLQ learns no masks",
    "TEST.KEYPOINT_OKS_SIGMAS": "CLQ finds no keypoints",
}

Table = Mapping[tuple[str, Any], Sequence[str]]

# Keys and sections that nothing reads, by the key that chooses the part and its value.
UNREAD_BY_MODEL: Table = {
    ("MODEL.CLQ.BOX_CODING", "deltas"): ("MODEL.CLQ.REG_MAX", "MODEL.CLQ.DFL_LOSS_WEIGHT"),
    ("MODEL.CLQ.QUALITY", "none"): (
        "MODEL.CLQ.ALPHA",
        "MODEL.CLQ.QUALITY_LOSS_WEIGHT",
        "MODEL.CLQ.WEIGH_QUALITY_BY_SCORE",
    ),
    ("MODEL.CLQ.QUALITY", "centerness"): ("MODEL.CLQ.ALPHA",),
    ("MODEL.CLQ.ALIGNMENT", False): ("MODEL.CLQ.DETACH_OFFSETS",),
    ("MODEL.CLQ.CLASS_LOSS", "focal"): ("MODEL.CLQ.QFL_BETA", "MODEL.CLQ.CLASS_TARGET"),
    ("MODEL.CLQ.CLASS_LOSS", "quality_focal"): (
        "MODEL.CLQ.FOCAL_ALPHA",
        "MODEL.CLQ.FOCAL_GAMMA",
    ),
    ("SOLVER.EARLY_STOPPING.PATIENCE", 0): ("SOLVER.EARLY_STOPPING.MIN_GAIN",),
    ("SOLVER.EMA.ENABLED", False): ("SOLVER.EMA.DECAY",),
}
# The same, of runs alone: a checkpoint of earlier versions may hold other values of these.
UNREAD_BY_RUN: Table = {
    ("DATALOADER.SAMPLER_TRAIN", "TrainingSampler"): (
        "DATALOADER.REPEAT_SQRT",
        "DATALOADER.REPEAT_THRESHOLD",
        "DATALOADER.RANDOM_SUBSET_RATIO",
    ),
    ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"): (
        "DATALOADER.REPEAT_SQRT",
        "DATALOADER.REPEAT_THRESHOLD",
    ),
    ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"): (
        "DATALOADER.RANDOM_SUBSET_RATIO",
    ),
    ("DATASETS.TEST", ()): ("TEST.EVAL_PERIOD",),
    ("INPUT.CROP.ENABLED", False): ("INPUT.CROP.TYPE", "INPUT.CROP.SIZE"),
    ("INPUT.MIN_SIZE_TEST", 0): ("INPUT.MAX_SIZE_TEST",),
    ("MODEL.BACKBONE.NAME", "build_clq_resnet_fpn_backbone"): (
        "MODEL.TIMM",
        "MODEL.TORCHVISION",
    ),
    ("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone"): (
        "MODEL.BACKBONE.FREEZE_AT",
        "MODEL.RESNETS",
        "MODEL.TORCHVISION",
    ),
    ("MODEL.BACKBONE.NAME", "build_torchvision_fpn_backbone"): (
        "MODEL.BACKBONE.FREEZE_AT",
        "MODEL.RESNETS",
        "MODEL.TIMM",
    ),
    ("MODEL.COMPILE.ENABLED", False): ("MODEL.COMPILE.BACKEND",),
    ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", (False,) * 4): (
        "MODEL.RESNETS.DEFORM_MODULATED",
        "MODEL.RESNETS.DEFORM_NUM_GROUPS",
    ),
    ("SOLVER.AMP.ENABLED", False): ("SOLVER.AMP.PRECISION",),
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value"): ("SOLVER.CLIP_GRADIENTS.NORM_TYPE",),
    ("SOLVER.CLIP_GRADIENTS.ENABLED", False): (
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
        "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
    ),
    ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"): (
        "SOLVER.GAMMA",
        "SOLVER.NUM_DECAYS",
        "SOLVER.STEPS",
    ),
    ("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"): ("SOLVER.BASE_LR_END", "SOLVER.NUM_DECAYS"),
    ("SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR"): (
        "SOLVER.BASE_LR_END",
        "SOLVER.STEPS",
    ),
    ("SOLVER.OPTIMIZER", "AdamW"): ("SOLVER.MOMENTUM", "SOLVER.NESTEROV"),
    ("SOLVER.WARMUP_ITERS", 0): ("SOLVER.WARMUP_FACTOR", "SOLVER.WARMUP_METHOD"),
    ("TEST.PRECISE_BN.ENABLED", False): ("TEST.PRECISE_BN.NUM_ITER",),
    ("WANDB.ENABLED", False): ("WANDB.PROJECT", "WANDB.NAME"),
}
# The same, of evaluations alone: a training keeps them in the checkpoint, for predictions.
UNREAD_BY_EVALUATION: Table = {
    ("TEST.AUG.ENABLED", False): ("TEST.AUG",),
    ("TEST.TILE", 0): ("TEST.TILE_OVERLAP", "TEST.TILE_WHOLE"),
}
# A base config has values of these for its own choices, so only the command line's are refused.
_INHERITED = (
    "INPUT.MAX_SIZE_TEST",
    "MODEL.RESNETS.OUT_FEATURES",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
    "SOLVER.GAMMA",
    "SOLVER.STEPS",
    "SOLVER.WARMUP_FACTOR",
    "SOLVER.WARMUP_METHOD",
    "TEST.EVAL_PERIOD",
)


def flatten(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys that are no section, by their full name, with their values."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def check_other_architectures(values: dict[str, Any], defaults: dict[str, Any]) -> None:
    """
    Raises:
        ValueError: a key of another architecture was changed.
    """
    for key in _changed(SECTIONS_OF_OTHERS, values, defaults):
        ours = f"MODEL.CLQ.{key.split('.')[-1]}"
        instead = f"use {ours}" if ours in defaults else "the keys of CLQ are MODEL.CLQ.*"
        raise ValueError(f"{key} is set to {values[key]!r}, but CLQ ignores it; {instead}.")


def check_unread(
    table: Table,
    values: dict[str, Any],
    defaults: dict[str, Any],
    given: Collection[str] = (),
) -> None:
    """Refuse keys that have no effect.

    Args:
        table: which keys nothing reads where another key has some value.
        values: of all keys.
        defaults: likewise.
        given: keys of the command line. What it switches off, a config file may have set up.

    Raises:
        ValueError: a key was changed that another key takes the effect from.
    """
    for (chooser, part), names in table.items():
        is_chosen = _plain(values[chooser]) == _plain(part)
        for key in _changed(names, values, defaults) if is_chosen else ():
            if chooser in given and key not in given:
                continue
            raise ValueError(
                f"{key} is {values[key]!r}, but nothing reads it where {chooser} is {part!r}; "
                f"leave it at {defaults[key]!r}."
            )


def check_unread_by_run(
    cfg: dict[str, Any], defaults: dict[str, Any], given: Collection[str], *, eval_only: bool
) -> None:
    """Refuse keys that a run would ignore.

    Args:
        cfg: of the run.
        defaults: its keys before a config file and the command line set any.
        given: keys of the command line.
        eval_only: nothing is trained, so that what a training would ignore is not refused.

    Raises:
        ValueError: naming the key and its value.
    """
    values, before = dict(flatten(cfg)), dict(flatten(defaults))
    for name, reason in NOT_AVAILABLE.items():
        for key in _changed([name], values, before):
            raise ValueError(
                f"{key} is {values[key]!r}, but {reason}; leave it at {before[key]!r}."
            )
    if eval_only:
        kept = {key: value for key, value in values.items() if key not in given}
        check_unread(UNREAD_BY_EVALUATION, values, before | kept, given)
    else:
        kept = {key: values[key] for key in _INHERITED if key not in given}
        check_unread(UNREAD_BY_RUN, values, before | kept, given)


def _changed(
    names: Collection[str], values: dict[str, Any], defaults: dict[str, Any]
) -> Iterator[str]:
    """Keys that are named, or lie in a section that is, and whose value is not the default."""
    for key, value in values.items():
        is_named = any(key == name or key.startswith(f"{name}.") for name in names)
        if is_named and _plain(value) != _plain(defaults.get(key, value)):
            yield key


def _plain(value: Any) -> Any:
    """Lists for tuples, which yaml does not keep apart."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
