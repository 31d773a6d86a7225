"""ATSS assignment against the reference arrays, exactly."""

import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou

from clq.modeling.matcher import ATSSMatcher
from clq.modeling.nearest_anchors import AnchorGrid
from reference.atss import plain_atss
from reference.devices import on_device
from reference.golden import golden, golden_names


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", golden_names("atss_assign_*"))
@pytest.mark.parametrize("on_grid", (True, False))
def test_golden_atss_assignment(name, on_grid):
    """Ties in distance: the reference may choose any; we promise the lower index."""
    arrays = golden(name)
    sizes = arrays["num_level_anchors"].tolist()
    anchors = [Boxes(boxes) for boxes in arrays["anchors"].split(sizes)]
    gt_boxes = Boxes(arrays["gt_boxes"])

    grid = AnchorGrid(arrays["strides"].tolist(), arrays["feat_hw"].tolist())
    matcher = ATSSMatcher(int(arrays["topk"]))

    matched_idxs, labels = on_device(matcher)(anchors, gt_boxes, grid=grid if on_grid else None)

    assigned = torch.where(labels == 1, matched_idxs + 1, 0)
    expected = arrays["assigned_gt_inds"]
    if arrays["flagged_ambiguous"]:
        plain_idxs, plain_labels = plain_atss(anchors, gt_boxes, matcher.topk)
        expected = torch.where(plain_labels == 1, plain_idxs + 1, 0)
    torch.testing.assert_close(assigned, expected, rtol=0, atol=0)
    is_same = (labels == 1) & (assigned == arrays["assigned_gt_inds"])
    iou = pairwise_iou(Boxes(arrays["anchors"]), gt_boxes)
    matched_iou = iou[is_same, matched_idxs[is_same]]
    expected_iou = arrays["max_overlaps"][is_same]
    torch.testing.assert_close(matched_iou, expected_iou, rtol=0, atol=1e-6)
