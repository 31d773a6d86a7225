"""Every key that CLQ adds to Detectron2's configuration."""

from detectron2.config import CfgNode, get_cfg


def add_clq_config(cfg: CfgNode) -> None:
    """Add the keys of CLQ, with their defaults, to a configuration of Detectron2."""
    # On CPU, keep convolution weights, and so feature maps, channels-last, which is faster there. A
    # GPU's GroupNorm would copy each map to the other layout and back, so there this does nothing.
    cfg.MODEL.CHANNELS_LAST = True
    # With --eval-only, on CPU: norms as part of convolutions, bf16 where the processor has it.
    cfg.MODEL.FAST_INFERENCE = False
    # Let the file of MODEL.WEIGHTS run code; only for a pickle whose origin you trust.
    cfg.MODEL.TRUST_WEIGHTS = False
    # Without MODEL.WEIGHTS, let parts of the backbone be frozen at the random values they start at.
    cfg.MODEL.ALLOW_FROZEN_RANDOM = False
    # Train the affine part of the backbone's batch norms above the frozen stages, and hold the
    # statistics, as the reference does; Detectron2's FrozenBN holds both.
    cfg.MODEL.RESNETS.TRAIN_NORM_AFFINE = False
    _add_head(cfg)
    _add_losses(cfg)
    _add_inference(cfg)
    _add_torchvision(cfg)
    _add_timm(cfg)
    _add_data(cfg)
    _add_solver(cfg)
    _add_trainer(cfg)
    _add_reports(cfg)


def get_clq_cfg() -> CfgNode:
    """Detectron2's default configuration with the keys of CLQ."""
    cfg = get_cfg()
    add_clq_config(cfg)
    return cfg


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
    # TEST.AUG.ENABLED, MIN_SIZES, MAX_SIZE and FLIP are Detectron2's.
    cfg.TEST.AUG.MERGE = "nms"  # of the views' boxes; "vote" averages those that NMS suppresses
    cfg.TEST.TILE = 0  # side of the tiles in pixels that an image is cut into; 0 does not cut
    cfg.TEST.TILE_OVERLAP = 0.2  # share of a tile's side that its neighbour has too, at least
    cfg.TEST.TILE_WHOLE = False  # detect in the whole image too


def _add_torchvision(cfg: CfgNode) -> None:
    cfg.MODEL.TORCHVISION = CfgNode()
    cfg.MODEL.TORCHVISION.NAME = "mobilenet_v2"  # one of torchvision.models.list_models()
    # Graph nodes that give the maps of strides 8, 16 and 32.
    cfg.MODEL.TORCHVISION.OUT_NODES = ["features.6", "features.13", "features.18"]
    cfg.MODEL.TORCHVISION.FREEZE_NORM = True  # hold batch-norm statistics and affine parameters
    cfg.MODEL.TORCHVISION.FROZEN_LAYERS = []  # modules that are not trained, such as "features.0"


def _add_timm(cfg: CfgNode) -> None:
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = "resnet50d"  # one of timm.list_models(), built without weights
    cfg.MODEL.TIMM.FREEZE_NORM = True  # hold batch-norm statistics and affine parameters
    cfg.MODEL.TIMM.FROZEN_LAYERS = []  # modules that are not trained, such as "stages.0"
    cfg.MODEL.TIMM.DROP_PATH_RATE = 0.0  # chance to skip the last block in training; rises to it


def _add_data(cfg: CfgNode) -> None:
    # Annotations and their image folder; if either is given, neither DATASETS.TRAIN nor TEST is
    # used. The annotations are a COCO json, or YOLO's or Pascal VOC's, which need no folder: "".
    cfg.DATASETS.TRAIN_JSON = ()  # (annotations, images), as --train
    cfg.DATASETS.VAL_JSON = ()  # (annotations, images), as --val
    # Pass over images that are missing or damaged, and count them, instead of stopping.
    cfg.DATALOADER.SKIP_UNREADABLE = False
    # Bits that the values of images of more than 8 bits per channel use, 9 to 32; 1 for floats from
    # 0 to 1. They are scaled to 8 bits by it. With 8, such images are refused.
    cfg.INPUT.BIT_DEPTH = 8
    cfg.INPUT.VERTICAL_FLIP = False  # flip upside down too, half the time; for views from above
    cfg.INPUT.QUARTER_TURNS = False  # rotate by 0, 90, 180 or 270 degrees; for views from above
    cfg.INPUT.COLOR_JITTER = 0.0  # largest relative change of brightness, contrast, saturation
    # Before resizing and flipping, in this order: "scale_jitter", "photometric_distortion",
    # "mosaic", or a function of one's own as "module:function"; see docs/training.md.
    cfg.INPUT.AUGMENTATIONS = ()


def _add_solver(cfg: CfgNode) -> None:
    # Let only operators run whose result is the same in every run; slower on a GPU.
    cfg.DETERMINISTIC = False
    # The batch that the schedule is written for; another IMS_PER_BATCH scales learning rate and
    # iterations, see docs/training.md. 0 takes the schedule as it stands.
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 16
    cfg.SOLVER.OPTIMIZER = "SGD"  # or "AdamW"
    cfg.SOLVER.AMP.PRECISION = "float16"  # or "bfloat16", where SOLVER.AMP.ENABLED
    cfg.TEST.EVALUATOR = "hotcoco"  # or "pycocotools", which gives the same numbers


def _add_trainer(cfg: CfgNode) -> None:
    cfg.SOLVER.ACCUMULATION = CfgNode()
    # Parts of a process's batch that pass the network one after the other; IMS_PER_BATCH stays the
    # whole batch of a step.
    cfg.SOLVER.ACCUMULATION.MICRO_BATCHES = 1
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False  # keep a moving average of the weights, and evaluate it too
    cfg.SOLVER.EMA.DECAY = 0.9998  # share of the average that stays in a step, once it is long
    cfg.SOLVER.KEEP_BEST = False  # model_best.safetensors, of the evaluation with the highest AP
    cfg.SOLVER.EARLY_STOPPING = CfgNode()
    # Evaluations without a gain in AP after which the training ends; 0 is off.
    cfg.SOLVER.EARLY_STOPPING.PATIENCE = 0
    cfg.SOLVER.EARLY_STOPPING.MIN_GAIN = 0.0  # in AP of percent; a gain is more than that
    cfg.MODEL.COMPILE = CfgNode()
    cfg.MODEL.COMPILE.ENABLED = False  # train the network as torch.compile makes it
    cfg.MODEL.COMPILE.BACKEND = "inductor"  # one of torch.compiler.list_backends()


def _add_reports(cfg: CfgNode) -> None:
    # Write OUTPUT_DIR/report, what the detector gets wrong, after training and --eval-only.
    cfg.TEST.REPORT = True
    cfg.TEST.VALIDATION_LOSS = False  # the losses on DATASETS.TEST, at every evaluation
    cfg.WANDB = CfgNode()
    cfg.WANDB.ENABLED = False  # metrics and pictures to Weights & Biases too
    cfg.WANDB.PROJECT = "clq"  # in which the run appears
    cfg.WANDB.NAME = ""  # of the run; empty lets Weights & Biases choose one
