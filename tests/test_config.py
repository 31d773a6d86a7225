"""The keys that CLQ adds and the values that it refuses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg

import clq
from clq.config import add_clq_config, check_config, get_clq_cfg

PACKAGE = Path(clq.__file__).parent


def leaves(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def added_keys() -> list[str]:
    return sorted(set(leaves(get_clq_cfg())) - set(leaves(get_cfg())))


def test_keys_are_added_to_the_given_configuration_alone():
    cfg = get_cfg()
    before = cfg.dump()
    add_clq_config(get_cfg())
    assert get_cfg().dump() == before
    add_clq_config(cfg)
    assert cfg == get_clq_cfg() and len(added_keys()) > 20


def test_keys_of_detectron2_keep_their_defaults():
    cfg, theirs = get_clq_cfg(), get_cfg()
    for key in leaves(theirs):
        ours, other = cfg, theirs
        for part in key.split("."):
            ours, other = ours[part], other[part]
        assert ours == other, key


@pytest.mark.parametrize("key", added_keys())
def test_a_key_is_read_and_explained(key: str):
    name = key.rpartition(".")[2]
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "config.py"]
    readers = [path.name for path in sources if re.search(rf"\.{name}\b", path.read_text())]
    assert readers, f"nothing outside config.py reads {key}"
    lines = (PACKAGE / "config.py").read_text().splitlines()
    (place,) = [i for i, line in enumerate(lines) if f"cfg.{key} = " in line]
    assert "  # " in lines[place] or lines[place - 1].lstrip().startswith("# "), key


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


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.CLQ.CANDIDATE_RULE_TEST", "boxes"),
        ("MODEL.CLQ.ALPHA", 1.5),
        ("MODEL.CLQ.NUM_GROUPS", 0),
        ("MODEL.CLQ.NUM_CLASSES", 0),
        ("MODEL.CLQ.ALPHA", -0.1),
        ("MODEL.CLQ.NUM_GROUPS", 24),
        ("MODEL.CLQ.OFFSET_GROUPS", 5),
        ("MODEL.FPN.OUT_CHANNELS", 100),
        ("SOLVER.OPTIMIZER", "sgd"),
        ("SOLVER.AMP.PRECISION", "fp16"),
        ("TEST.EVALUATOR", "coco"),
    ],
)
def test_a_value_out_of_range_is_refused(key: str, value: Any):
    cfg = get_clq_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=key.replace(".", r"\.")) as error:
        check_config(cfg)
    assert str(value) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.CLQ.CANDIDATE_RULE_TEST", "anchors"),
        ("MODEL.CLQ.ALPHA", 0.0),
        ("MODEL.CLQ.ALPHA", 1.0),
        ("MODEL.FPN.OUT_CHANNELS", 96),
        ("SOLVER.OPTIMIZER", "AdamW"),
        ("SOLVER.AMP.PRECISION", "bfloat16"),
        ("TEST.EVALUATOR", "pycocotools"),
        ("MODEL.RESNETS.DEPTH", 101),
    ],
)
def test_other_values_are_accepted(key: str, value: Any):
    cfg = get_clq_cfg()
    check_config(cfg)
    cfg.merge_from_list([key, value])
    check_config(cfg)


UNREAD = [
    ({"BOX_CODING": "deltas"}, "REG_MAX", 8),
    ({"BOX_CODING": "deltas"}, "DFL_LOSS_WEIGHT", 1.0),
    ({"QUALITY": "centerness"}, "ALPHA", 0.5),
    ({"QUALITY": "none"}, "QUALITY_LOSS_WEIGHT", 2.0),
    ({"ALIGNMENT": False}, "DETACH_OFFSETS", True),
    ({"CLASS_LOSS": "focal"}, "CLASS_TARGET", "hard"),
    ({}, "FOCAL_ALPHA", 0.5),
]


@pytest.mark.parametrize(("parts", "key", "value"), UNREAD, ids=[case[1] for case in UNREAD])
def test_a_key_that_no_part_reads_is_refused(parts: dict[str, Any], key: str, value: Any):
    cfg = get_clq_cfg()
    for part, choice in parts.items():
        cfg.MODEL.CLQ[part] = choice
    check_config(cfg)
    cfg.MODEL.CLQ[key] = value
    with pytest.raises(ValueError, match=f"MODEL.CLQ.{key} is .*nothing reads it where"):
        check_config(cfg)


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
