"""Tensor names in both directions, each written out."""

import pytest

from clq.checkpoint.mmdet.names import (
    from_mmdet_name,
    is_ignored_buffer,
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
