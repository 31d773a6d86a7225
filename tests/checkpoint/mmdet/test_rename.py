"""Tensors of a mmdetection detector by our names."""

import pytest
import torch

from clq.checkpoint.mmdet.rename import detect_head, rename_tensors

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
