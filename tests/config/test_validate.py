"""The values of the configuration that CLQ refuses."""

from typing import Any

import pytest

from clq.config import check_config, check_training_config, get_clq_cfg


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("MODEL.RETINANET.NUM_CLASSES", 3, "use MODEL.CLQ.NUM_CLASSES"),
        ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.1, "use MODEL.CLQ.SCORE_THRESH_TEST"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 3, "use MODEL.CLQ.NUM_CLASSES"),
        ("MODEL.MASK_ON", True, "the keys of CLQ are MODEL.CLQ"),
        ("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.CLQ"),
        ("MODEL.RPN.NMS_THRESH", 0.5, "MODEL.CLQ"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "Other", "MODEL.CLQ"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[8]], "the keys of CLQ are MODEL.CLQ"),
    ],
)
def test_a_key_of_another_architecture_is_refused(key: str, value: Any, instead: str):
    cfg = get_clq_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=instead) as error:
        check_config(cfg)
    assert str(error.value).startswith(key)


OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("MODEL.CLQ.CANDIDATE_RULE_TEST", "boxes", "it must be 'pairs' or 'anchors'."),
    ("MODEL.CLQ.ALPHA", 1.5, "it must lie in [0, 1]."),
    ("MODEL.CLQ.ALPHA", -0.1, "it must lie in [0, 1]."),
    ("MODEL.CLQ.NUM_GROUPS", 0, "it must be at least 1."),
    ("MODEL.CLQ.NUM_CLASSES", 0, "it must lie in [1, 100000]."),
    ("MODEL.FPN.OUT_CHANNELS", 100, "it must be a multiple of MODEL.CLQ.NUM_GROUPS = 32."),
    ("SOLVER.OPTIMIZER", "sgd", "it must be 'SGD' or 'AdamW'."),
    ("SOLVER.AMP.PRECISION", "fp16", "it must be 'float16' or 'bfloat16'."),
    ("TEST.EVALUATOR", "coco", "it must be 'hotcoco' or 'pycocotools'."),
    ("SOLVER.MAX_ITER", 0, "it must be at least 1."),
    ("SOLVER.CHECKPOINT_PERIOD", 0, "it must be at least 1."),
    ("DATALOADER.NUM_WORKERS", -1, "it must lie in [0, 1024]."),
    ("SOLVER.ACCUMULATION.MICRO_BATCHES", 0, "it must be at least 1."),
    ("SOLVER.EARLY_STOPPING.PATIENCE", -1, "it must be at least 0."),
    ("SOLVER.EARLY_STOPPING.MIN_GAIN", -0.5, "it must be at least 0."),
    ("SOLVER.EMA.DECAY", 1.0, "it must lie in [0, 1)."),
    ("SOLVER.EMA.DECAY", -0.1, "it must lie in [0, 1)."),
    ("MODEL.RESNETS.DEPTH", 56, "it must be 18 or 34 or 50 or 101 or 152."),
    ("MODEL.RESNETS.DEPTH", 18, "which needs MODEL.RESNETS.RES2_OUT_CHANNELS 64, not 256."),
    (
        *("MODEL.RESNETS.NORM", "batch"),
        "it must be a norm of Detectron2, such as 'BN', 'SyncBN', 'FrozenBN' or 'GN'.",
    ),
    (
        *("MODEL.BACKBONE.NAME", "resnet"),
        "which nothing has registered; CLQ has 'build_clq_resnet_fpn_backbone', "
        "'build_timm_fpn_backbone' and 'build_torchvision_fpn_backbone'.",
    ),
    ("MODEL.BACKBONE.FREEZE_AT", 9, "it must be 0 or 1 or 2 or 3 or 4 or 5."),
    ("TEST.DETECTIONS_PER_IMAGE", 0, "it must lie in [1, 1e+07]."),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "some", "it must be 'choice' or 'range'."),
    ("MODEL.DEVICE", "meta", "where tensors have no values; use cpu or cuda."),
]


@pytest.mark.parametrize(("key", "value", "rest"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused(key: str, value: Any, rest: str):
    cfg = get_clq_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError) as error:
        check_config(cfg)
    before, _, after = str(error.value).partition(f"{key} is {value!r}")
    assert before == "" and after in (f"; {rest}", f", {rest}")


@pytest.mark.parametrize(
    ("key", "value"), [("MODEL.CLQ.NUM_GROUPS", 24), ("MODEL.CLQ.OFFSET_GROUPS", 5)]
)
def test_groups_divide_the_channels(key: str, value: int):
    cfg = get_clq_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=f"OUT_CHANNELS is 256; it must be a multiple of {key} = "):
        check_config(cfg)


def test_a_training_needs_an_image_size():
    cfg = get_clq_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = ()
    with pytest.raises(
        ValueError, match=r"^INPUT.MIN_SIZE_TRAIN is empty; .*, such as \(800,\)\.$"
    ):
        check_config(cfg)


def test_a_range_of_sizes_has_two_ends():
    cfg = get_clq_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    with pytest.raises(ValueError, match=r"^INPUT.MIN_SIZE_TRAIN is \(800,\); .*\(480, 800\)\.$"):
        check_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (480, 800)
    check_config(cfg)


ACCEPTED: list[dict[str, Any]] = [
    {"MODEL.CLQ.CANDIDATE_RULE_TEST": "anchors"},
    {"MODEL.CLQ.ALPHA": 0.0},
    {"MODEL.CLQ.ALPHA": 1.0},
    {"MODEL.FPN.OUT_CHANNELS": 96},
    {"SOLVER.OPTIMIZER": "AdamW"},
    {"SOLVER.AMP.PRECISION": "bfloat16"},
    {"TEST.EVALUATOR": "pycocotools"},
    {"MODEL.RESNETS.DEPTH": 101},
    {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64},
    {"MODEL.RESNETS.NORM": ""},
    {"MODEL.RESNETS.NORM": "SyncBN"},
    {"DATALOADER.NUM_WORKERS": 0},
    {"SOLVER.EMA.ENABLED": True, "SOLVER.EMA.DECAY": 0.0},
    {"SOLVER.ACCUMULATION.MICRO_BATCHES": 2},
    {"SOLVER.EARLY_STOPPING.PATIENCE": 3, "SOLVER.EARLY_STOPPING.MIN_GAIN": 0.1},
]


@pytest.mark.parametrize("keys", ACCEPTED, ids=str)
def test_other_values_are_accepted(keys: dict[str, Any]):
    cfg = get_clq_cfg()
    check_config(cfg)
    cfg.merge_from_list([part for item in keys.items() for part in item])
    check_config(cfg)


UNREAD: list[tuple[dict[str, Any], str, Any]] = [
    ({"MODEL.CLQ.BOX_CODING": "deltas"}, "MODEL.CLQ.REG_MAX", 8),
    ({"MODEL.CLQ.BOX_CODING": "deltas"}, "MODEL.CLQ.DFL_LOSS_WEIGHT", 1.0),
    ({"MODEL.CLQ.QUALITY": "centerness"}, "MODEL.CLQ.ALPHA", 0.5),
    ({"MODEL.CLQ.QUALITY": "none"}, "MODEL.CLQ.QUALITY_LOSS_WEIGHT", 2.0),
    ({"MODEL.CLQ.ALIGNMENT": False}, "MODEL.CLQ.DETACH_OFFSETS", True),
    ({"MODEL.CLQ.CLASS_LOSS": "focal"}, "MODEL.CLQ.CLASS_TARGET", "hard"),
    ({}, "MODEL.CLQ.FOCAL_ALPHA", 0.5),
    ({}, "SOLVER.EARLY_STOPPING.MIN_GAIN", 0.5),
    ({}, "SOLVER.EMA.DECAY", 0.999),
]


@pytest.mark.parametrize(("parts", "key", "value"), UNREAD, ids=[case[1] for case in UNREAD])
def test_a_key_that_no_part_reads_is_refused(parts: dict[str, Any], key: str, value: Any):
    cfg = get_clq_cfg()
    cfg.merge_from_list([part for item in parts.items() for part in item])
    check_config(cfg)
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError) as error:
        check_config(cfg)
    assert str(error.value).startswith(f"{key} is {value!r}, but nothing reads it where ")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"RESNETS.NORM": "BN"}, "RESNETS.NORM is 'BN', but .* leave NORM at 'FrozenBN'"),
        (
            {"BACKBONE.NAME": "build_torchvision_fpn_backbone"},
            "only build_clq_resnet_fpn_backbone reads it",
        ),
    ],
)
def test_trained_affine_parameters_need_a_frozen_resnet(keys: dict[str, Any], sentence: str):
    cfg = get_clq_cfg()
    trained = {"RESNETS.TRAIN_NORM_AFFINE": True, "BACKBONE.NAME": "build_clq_resnet_fpn_backbone"}
    cfg.merge_from_list([x for k, v in trained.items() for x in (f"MODEL.{k}", v)])
    check_config(cfg)
    cfg.merge_from_list([x for k, v in keys.items() for x in (f"MODEL.{k}", v)])
    with pytest.raises(ValueError, match=sentence):
        check_config(cfg)


def test_one_rule_scales_the_schedule():
    cfg = get_clq_cfg()
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 8
    with pytest.raises(ValueError, match="REFERENCE_WORLD_SIZE is 8, but .*set one of them to 0"):
        check_config(cfg)
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 0
    check_config(cfg)


def test_a_training_can_be_checked_for_what_it_needs_beside_the_detector():
    """A configuration inside a checkpoint names no data, so it is not checked for that."""
    cfg = get_clq_cfg()
    check_training_config(cfg)
    cfg.SOLVER.KEEP_BEST = cfg.TEST.VALIDATION_LOSS = True
    cfg.SOLVER.EARLY_STOPPING.PATIENCE, cfg.TEST.EVAL_PERIOD, cfg.VIS_PERIOD = 3, 10, 5
    check_config(cfg)
    cfg.DATASETS.TEST = ("val",)
    check_training_config(cfg)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.EARLY_STOPPING.PATIENCE", 3),
        ("SOLVER.KEEP_BEST", True),
        ("TEST.VALIDATION_LOSS", True),
        ("VIS_PERIOD", 100),
    ],
)
def test_evaluation_needs_data(key: str, value: Any):
    cfg = get_clq_cfg()
    cfg.merge_from_list([key, value, "TEST.EVAL_PERIOD", 10])
    with pytest.raises(ValueError) as error:
        check_training_config(cfg)
    assert str(error.value) == (
        f"{key} is {value}, but there is no data to evaluate on; give some by --val or "
        "DATASETS.TEST."
    )


def test_fast_inference_is_not_for_training():
    cfg = get_clq_cfg()
    cfg.MODEL.FAST_INFERENCE = True
    check_config(cfg)
    with pytest.raises(ValueError, match="but trainings don't use it; give it with --eval-only"):
        check_training_config(cfg)


def test_augmentations_are_known_or_of_the_user():
    cfg = get_clq_cfg()
    cfg.INPUT.AUGMENTATIONS = ["photometric_distortion", "mosaic", "no_such_module:f"]
    check_training_config(cfg)  # which imports nothing
    for wrong in ("mosiac", 3):
        cfg.INPUT.AUGMENTATIONS = ("mosaic", wrong)
        with pytest.raises(ValueError) as error:
            check_training_config(cfg)
        assert str(error.value) == (
            f"INPUT.AUGMENTATIONS has {wrong!r}; it takes 'scale_jitter', "
            "'photometric_distortion', 'mosaic', and functions of your own as 'module:function'."
        )
        check_config(cfg)  # nothing else reads the key
    cfg.INPUT.AUGMENTATIONS = ("mosaic", "scale_jitter", "mosaic")
    with pytest.raises(ValueError, match="has 'mosaic' twice; give it once"):
        check_training_config(cfg)


def test_early_stopping_needs_evaluations():
    cfg = get_clq_cfg()
    cfg.DATASETS.TEST = ("val",)
    cfg.SOLVER.EARLY_STOPPING.PATIENCE = 3
    with pytest.raises(ValueError, match="PATIENCE is 3, but with TEST.EVAL_PERIOD 0 only the end"):
        check_training_config(cfg)


def test_the_schedules_are_those_of_the_installed_detectron2():
    cfg = get_clq_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME = "Cosine"
    with pytest.raises(ValueError, match="is 'Cosine'; it must be .* or 'WarmupCosineLR'"):
        check_training_config(cfg)
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupStepWithFixedGammaLR"
    cfg.SOLVER.pop("NUM_DECAYS", None)
    with pytest.raises(ValueError, match="is 'WarmupStepWithFixedGammaLR'; it must be "):
        check_training_config(cfg)
    cfg.SOLVER.NUM_DECAYS = 3
    check_training_config(cfg)
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    check_training_config(cfg)
