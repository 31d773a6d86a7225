"""Tensor names in both directions, each written out, and the tensors of a detector by ours."""

import pytest
import torch

from clq.checkpoint.mmdet.names import (
    detect_head,
    from_mmdet_name,
    is_ignored_buffer,
    rename_tensors,
    to_mmdet_name,
)

COMMON = {
    "backbone.conv1.weight": "backbone.bottom_up.stem.conv1.weight",
    "backbone.bn1.running_mean": "backbone.bottom_up.stem.conv1.norm.running_mean",
    "backbone.layer1.0.conv2.weight": "backbone.bottom_up.res2.0.conv2.weight",
    "backbone.layer3.22.bn3.bias": "backbone.bottom_up.res4.22.conv3.norm.bias",
    "backbone.layer4.0.downsample.0.weight": "backbone.bottom_up.res5.0.shortcut.weight",
    "backbone.layer4.0.downsample.1.bias": "backbone.bottom_up.res5.0.shortcut.norm.bias",
    "backbone.layer2.1.conv2.conv_offset.bias": "backbone.bottom_up.res3.1.conv2_offset.bias",
    "neck.lateral_convs.0.conv.weight": "backbone.fpn_lateral3.weight",
    "neck.fpn_convs.2.conv.bias": "backbone.fpn_output5.bias",
    "neck.fpn_convs.3.conv.bias": "backbone.top_block.p6.bias",
    "neck.fpn_convs.4.conv.weight": "backbone.top_block.p7.weight",
    "bbox_head.cls_convs.3.conv.weight": "head.cls_subnet.3.weight",
    "bbox_head.reg_convs.0.gn.bias": "head.bbox_subnet.0.norm.bias",
}
HEADS = {
    "clq": {
        "clq_cls.weight": "cls_score.weight",
        "clq_reg.bias": "bbox_pred.bias",
        "retina_iou.weight": "quality.predictor.weight",
        "feature_alignment.conv_offset.weight": "alignment.offset.weight",
        "feature_alignment.conv_adaption.weight": "alignment.conv.weight",
    },
    "gfl": {"gfl_cls.weight": "cls_score.weight", "gfl_reg.bias": "bbox_pred.bias"},
    "atss": {
        "atss_cls.weight": "cls_score.weight",
        "atss_reg.bias": "bbox_pred.bias",
        "atss_centerness.bias": "quality.predictor.bias",
    },
}
PAIRS = [("clq", *pair) for pair in COMMON.items()] + [
    (head, f"bbox_head.{theirs}", f"head.{ours}")
    for head, names in HEADS.items()
    for theirs, ours in names.items()
]


@pytest.mark.parametrize(("head", "theirs", "ours"), PAIRS)
def test_both_directions(head: str, theirs: str, ours: str):
    assert from_mmdet_name(theirs) == ours
    assert to_mmdet_name(ours, head) == theirs


def test_what_has_no_place():
    unknown = [
        "backbone.stem.0.weight",
        "backbone.layer5.0.conv1.weight",
        "backbone.layer1.0.downsample.2.weight",
        "neck.lateral_convs.3.conv.weight",
        "neck.fpn_convs.0.bn.weight",
        "bbox_head.reg_conf.0.weight",
        "rpn_head.rpn_cls.weight",
    ]
    assert [from_mmdet_name(name) for name in unknown] == [None] * len(unknown)
    assert to_mmdet_name("head.of_our_own.weight", "clq") == "head.of_our_own.weight"


def test_counters_and_constants_are_no_weights():
    assert is_ignored_buffer("backbone.bn1.num_batches_tracked")
    assert not is_ignored_buffer("backbone.bn1.running_var")


SCALES = {f"bbox_head.scales.{level}.scale": torch.tensor(1.0 + level) for level in range(5)}
TENSORS = {
    "bbox_head.gfl_cls.weight": torch.zeros(3, 4, 3, 3),
    "bbox_head.gfl_cls.bias": torch.zeros(3),
    "bbox_head.integral.project": torch.arange(17.0),
    "backbone.bn1.num_batches_tracked": torch.tensor(5),
    **SCALES,
}


@pytest.mark.parametrize("head", ("clq", "gfl", "atss"))
def test_the_head_is_the_one_that_predicts_most(head: str):
    names = [f"bbox_head.{head}_cls.weight", f"bbox_head.{head}_reg.weight"]
    assert detect_head([*names, "bbox_head.other_cls.weight"]) == head
    assert detect_head(["bbox_head.fcos_cls.weight"]) is None


def test_counters_and_constants_are_left_out_and_the_scales_are_one_tensor():
    renamed = rename_tensors(TENSORS, "gfl")
    assert set(renamed.tensors) == {"head.cls_score.weight", "head.cls_score.bias", "head.scales"}
    assert renamed.tensors["head.scales"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert renamed.source_name("head.cls_score.bias") == "bbox_head.gfl_cls.bias"
    assert renamed.source_name("head.bbox_pred.bias") == "bbox_head.gfl_reg.bias"
    assert renamed.unmatched == []


def test_a_second_tensor_for_a_place_and_another_head_s_are_unknown():
    more = {"bbox_head.atss_cls.weight": torch.ones(1), "head.cls_score.bias": torch.ones(3)}
    renamed = rename_tensors({**TENSORS, **more}, "gfl")
    assert renamed.unmatched == list(more)
    assert not renamed.tensors["head.cls_score.bias"].any()


def test_missing_scales_are_named_and_one_of_many_numbers_is_refused():
    del_one = {name: value for name, value in TENSORS.items() if not name.endswith("2.scale")}
    renamed = rename_tensors(del_one, "gfl")
    assert "head.scales" not in renamed.tensors
    assert renamed.source_name("head.scales") == "bbox_head.scales.2.scale"
    wide = {**TENSORS, "bbox_head.scales.1.scale": torch.ones(2)}
    with pytest.raises(ValueError, match="bbox_head.scales.1.scale has the shape .* one number"):
        rename_tensors(wide, "gfl")
