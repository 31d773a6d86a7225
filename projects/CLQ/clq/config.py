"""Every key that CLQ adds to Detectron2's configuration, and the check of what a user set."""

from collections.abc import Collection, Iterator
from typing import Any

from detectron2.config import CfgNode, get_cfg

from .modeling.clq import CANDIDATE_RULES
from .modeling.family import BOX_CODINGS, CLASS_LOSSES, QUALITY_BRANCHES

# Parts of Detectron2's configuration that belong to other architectures; CLQ never reads them.
_SECTIONS_OF_OTHERS = (
    "MODEL.ANCHOR_GENERATOR",
    "MODEL.KEYPOINT_ON",
    "MODEL.LOAD_PROPOSALS",
    "MODEL.MASK_ON",
    "MODEL.PANOPTIC_FPN",
    "MODEL.PROPOSAL_GENERATOR",
    "MODEL.RETINANET",
    "MODEL.ROI_BOX_HEAD",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_KEYPOINT_HEAD",
    "MODEL.ROI_MASK_HEAD",
    "MODEL.RPN",
    "MODEL.SEM_SEG_HEAD",
)

_CHOICES: dict[str, Collection[str]] = {
    "DATALOADER.SAMPLER_TRAIN": (
        "TrainingSampler",
        "RepeatFactorTrainingSampler",
        "RandomSubsetTrainingSampler",
    ),
    "MODEL.CLQ.BOX_CODING": BOX_CODINGS,
    "MODEL.CLQ.QUALITY": QUALITY_BRANCHES,
    "MODEL.CLQ.CLASS_LOSS": CLASS_LOSSES,
    "MODEL.CLQ.CLASS_TARGET": ("iou", "hard"),
    "MODEL.CLQ.CANDIDATE_RULE_TEST": CANDIDATE_RULES,
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
    "SOLVER.AMP.PRECISION": ("float16", "bfloat16"),
    "TEST.EVALUATOR": ("hotcoco", "pycocotools"),
}

# Keys under MODEL.CLQ that a part does not read, by the key that chooses the part and its value.
_UNREAD = {
    ("BOX_CODING", "deltas"): ("REG_MAX", "DFL_LOSS_WEIGHT"),
    ("QUALITY", "none"): ("ALPHA", "QUALITY_LOSS_WEIGHT", "WEIGH_QUALITY_BY_SCORE"),
    ("QUALITY", "centerness"): ("ALPHA",),
    ("ALIGNMENT", False): ("DETACH_OFFSETS",),
    ("CLASS_LOSS", "focal"): ("QFL_BETA", "CLASS_TARGET"),
    ("CLASS_LOSS", "quality_focal"): ("FOCAL_ALPHA", "FOCAL_GAMMA"),
}


def add_clq_config(cfg: CfgNode) -> None:
    """Add the keys of CLQ, with their defaults, to a configuration of Detectron2."""
    # Keep convolution weights, and so feature maps, channels-last: far faster on CPU.
    cfg.MODEL.CHANNELS_LAST = False
    # Let the file of MODEL.WEIGHTS run code; only for a pickle whose origin you trust.
    cfg.MODEL.TRUST_WEIGHTS = False
    # Train the affine part of the backbone's batch norms above the frozen stages, and hold the
    # statistics, as the reference does; Detectron2's FrozenBN holds both.
    cfg.MODEL.RESNETS.TRAIN_NORM_AFFINE = False
    _add_head(cfg)
    _add_losses(cfg)
    _add_inference(cfg)
    _add_torchvision(cfg)
    _add_data(cfg)
    _add_solver(cfg)


def get_clq_cfg() -> CfgNode:
    """Detectron2's default configuration with the keys of CLQ."""
    cfg = get_cfg()
    add_clq_config(cfg)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Refuse values that CLQ can't use, before anything is built.

    Raises:
        ValueError: a key of another architecture was changed, or a value is out of its range.
    """
    defaults = dict(leaves(get_clq_cfg()))
    for key, value in leaves(cfg):
        section = ".".join(key.split(".")[:2])
        if section in _SECTIONS_OF_OTHERS and value != defaults.get(key, value):
            ours = f"MODEL.CLQ.{key.split('.')[-1]}"
            instead = f"use {ours}" if ours in defaults else "the keys of CLQ are MODEL.CLQ.*"
            raise ValueError(f"{key} is set to {value!r}, but CLQ ignores it; {instead}.")
        if key in _CHOICES and value not in _CHOICES[key]:
            allowed = " or ".join(map(repr, _CHOICES[key]))
            raise ValueError(f"{key} is {value!r}; it must be {allowed}.")
    _check_ranges(cfg)
    _check_combinations(cfg)


def _check_ranges(cfg: CfgNode) -> None:
    options = cfg.MODEL.CLQ
    if not 0 <= options.ALPHA <= 1:
        raise ValueError(f"MODEL.CLQ.ALPHA is {options.ALPHA}; it must lie in [0, 1].")
    for key in ("NUM_CLASSES", "NUM_GROUPS", "OFFSET_GROUPS", "REG_MAX", "ATSS_TOPK"):
        if options[key] < 1:
            raise ValueError(f"MODEL.CLQ.{key} is {options[key]}; it must be at least 1.")
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    for key in ("NUM_GROUPS", "OFFSET_GROUPS"):
        if channels % options[key]:
            raise ValueError(
                f"MODEL.FPN.OUT_CHANNELS is {channels}; it must be a multiple of "
                f"MODEL.CLQ.{key} = {options[key]}."
            )


def _check_combinations(cfg: CfgNode) -> None:
    """Refuse keys that another key takes the effect from."""
    resnets, options, defaults = cfg.MODEL.RESNETS, cfg.MODEL.CLQ, get_clq_cfg().MODEL.CLQ
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
    for (chooser, part), keys in _UNREAD.items():
        for key in keys if options[chooser] == part else ():
            if options[key] != defaults[key]:
                raise ValueError(
                    f"MODEL.CLQ.{key} is {options[key]!r}, but nothing reads it where "
                    f"MODEL.CLQ.{chooser} is {part!r}; leave it at {defaults[key]!r}."
                )


def leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys that are no section, by their full name, with their values."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _add_head(cfg: CfgNode) -> None:
    cfg.MODEL.CLQ = CfgNode()
    cfg.MODEL.CLQ.NUM_CLASSES = 80  # filled from the json where the data is given by --train
    cfg.MODEL.CLQ.BOX_CODING = "distribution"  # or "deltas"
    cfg.MODEL.CLQ.QUALITY = "localization"  # branch: "localization", "centerness" or "none"
    cfg.MODEL.CLQ.ALIGNMENT = True  # the predicted box steers which features are classified
    cfg.MODEL.CLQ.DETACH_OFFSETS = False  # classification does not train the box through that
    cfg.MODEL.CLQ.NUM_CONVS = 4  # 3x3 convolutions in each tower
    cfg.MODEL.CLQ.NUM_GROUPS = 32  # groups of the towers' GroupNorm
    cfg.MODEL.CLQ.OFFSET_GROUPS = 4  # channel groups that the alignment moves separately
    cfg.MODEL.CLQ.REG_MAX = 16  # largest distance a distribution can express, in strides
    cfg.MODEL.CLQ.PRIOR_PROB = 0.01  # class probability that the initial bias stands for
    cfg.MODEL.CLQ.ALPHA = 0.3  # exponent of the quality in the joint score


def _add_losses(cfg: CfgNode) -> None:
    cfg.MODEL.CLQ.ATSS_TOPK = 9  # candidate anchors of a box on each level
    cfg.MODEL.CLQ.CLASS_LOSS = "quality_focal"  # or "focal"
    cfg.MODEL.CLQ.CLASS_TARGET = "iou"  # of the quality focal loss at an object's class, or "hard"
    cfg.MODEL.CLQ.QFL_BETA = 2.0  # focusing exponent of the quality focal loss
    cfg.MODEL.CLQ.FOCAL_ALPHA = 0.25  # weight of objects in the focal loss
    cfg.MODEL.CLQ.FOCAL_GAMMA = 2.0  # its focusing exponent
    cfg.MODEL.CLQ.BOX_REG_LOSS_WEIGHT = 2.0  # of the GIoU loss
    cfg.MODEL.CLQ.DFL_LOSS_WEIGHT = 0.25  # of the distribution focal loss
    cfg.MODEL.CLQ.QUALITY_LOSS_WEIGHT = 1.0  # of the localization quality loss
    cfg.MODEL.CLQ.WEIGH_QUALITY_BY_SCORE = False  # weigh that loss as the box losses are
    cfg.MODEL.CLQ.IGNORE_CROWD = False  # learn no background where most of a cell is in a crowd box


def _add_inference(cfg: CfgNode) -> None:
    cfg.MODEL.CLQ.SCORE_THRESH_TEST = 0.05  # joint score above which a candidate is kept
    cfg.MODEL.CLQ.TOPK_CANDIDATES_TEST = 1000  # candidates of each level before NMS
    cfg.MODEL.CLQ.CANDIDATE_RULE_TEST = "pairs"  # or "anchors", the rule of the reference
    cfg.MODEL.CLQ.NMS_THRESH_TEST = 0.6  # IoU above which NMS suppresses


def _add_torchvision(cfg: CfgNode) -> None:
    cfg.MODEL.TORCHVISION = CfgNode()
    cfg.MODEL.TORCHVISION.NAME = "mobilenet_v2"  # one of torchvision.models.list_models()
    # Graph nodes that give the maps of strides 8, 16 and 32.
    cfg.MODEL.TORCHVISION.OUT_NODES = ["features.6", "features.13", "features.18"]
    cfg.MODEL.TORCHVISION.FREEZE_NORM = True  # hold batch-norm statistics and affine parameters
    cfg.MODEL.TORCHVISION.FROZEN_LAYERS = []  # modules that are not trained, such as "features.0"


def _add_data(cfg: CfgNode) -> None:
    # A COCO json and its image folder; if either is given, neither DATASETS.TRAIN nor TEST is used.
    cfg.DATASETS.TRAIN_JSON = ()  # (json, images), as --train
    cfg.DATASETS.VAL_JSON = ()  # (json, images), as --val
    # Pass over images that are missing or damaged, and count them, instead of stopping.
    cfg.DATALOADER.SKIP_UNREADABLE = False
    cfg.INPUT.VERTICAL_FLIP = False  # flip upside down too, half the time; for views from above
    cfg.INPUT.QUARTER_TURNS = False  # rotate by 0, 90, 180 or 270 degrees; for views from above
    cfg.INPUT.COLOR_JITTER = 0.0  # largest relative change of brightness, contrast, saturation


def _add_solver(cfg: CfgNode) -> None:
    # Let only operators run whose result is the same in every run; slower on a GPU.
    cfg.DETERMINISTIC = False
    # The batch that the schedule is written for; another IMS_PER_BATCH scales learning rate and
    # iterations, see docs/training.md. 0 takes the schedule as it stands.
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 16
    cfg.SOLVER.OPTIMIZER = "SGD"  # or "AdamW"
    cfg.SOLVER.AMP.PRECISION = "float16"  # or "bfloat16", where SOLVER.AMP.ENABLED
    cfg.TEST.EVALUATOR = "hotcoco"  # or "pycocotools", which gives the same numbers
