"""Loss functions, distance coding and the joint score against the reference arrays."""

import re

import pytest
import torch
from detectron2.structures import Boxes
from torch import Tensor

from clq.modeling import DistributionBoxTransform, joint_scores
from clq.modeling.box_coding import expected_distances
from clq.modeling.losses import (
    distribution_focal_loss,
    paired_iou,
    quality_focal_loss,
    quality_loss,
)
from reference.devices import on_device
from reference.golden import golden, golden_names

pytestmark = pytest.mark.usefixtures("device")

joint_scores, expected_distances = on_device(joint_scores), on_device(expected_distances)
distribution_focal_loss, paired_iou, quality_focal_loss, quality_loss = map(
    on_device, (distribution_focal_loss, paired_iou, quality_focal_loss, quality_loss)
)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
# In probabilities that saturate the reference clamps, and ours differs on purpose.
SATURATED = "losses_qfl_prob_extreme"


def qfl_on_probabilities(prob: Tensor, arrays: dict[str, Tensor]) -> Tensor:
    """Loss of each element, through c = logit(p) and a quality that is certain."""
    logits = torch.logit(prob)
    log_p, log_1mp = joint_scores(logits, torch.full_like(logits[:, :1], 200.0), alpha=0.3)
    target = torch.zeros_like(prob)
    rows = (arrays["score"] > 0).nonzero().squeeze(1)  # those of background have none
    target[rows, arrays["label"][rows]] = arrays["score"][rows].to(prob.dtype)
    return quality_focal_loss(log_p, log_1mp, target, float(arrays["beta"]))


@pytest.mark.parametrize("name", [n for n in golden_names("losses_qfl_*") if n != SATURATED])
def test_golden_quality_focal_loss(name):
    arrays = golden(name)
    prob = arrays["pred"].double().requires_grad_()
    loss_elem = qfl_on_probabilities(prob, arrays).sum(dim=1)
    torch.testing.assert_close(loss_elem.float(), arrays["loss_elem"], **CLOSE)
    (gradient,) = torch.autograd.grad(loss_elem.sum(), prob, retain_graph=True)
    torch.testing.assert_close(gradient.float(), arrays["grad_pred_elem_sum"], **CLOSE)
    loss = arrays["loss_weight"] * (loss_elem * arrays["weight"]).sum() / arrays["avg_factor"]
    torch.testing.assert_close(loss.float(), arrays["loss"], **CLOSE)
    (gradient,) = torch.autograd.grad(loss.sum(), prob)
    torch.testing.assert_close(gradient.float(), arrays["grad_pred"], **CLOSE)


def test_golden_quality_focal_loss_in_single_precision():
    arrays = golden("losses_qfl_prob_realistic")
    loss_elem = qfl_on_probabilities(arrays["pred"], arrays).sum(dim=1)
    torch.testing.assert_close(loss_elem, arrays["loss_elem"], **CLOSE)


def test_golden_quality_focal_loss_saturated():
    """Ours differs on purpose where the probability form clamps: finite and right-signed."""
    arrays = golden(SATURATED)
    prob = arrays["pred"].clamp(1e-30, 1 - 1e-7).requires_grad_()
    loss = qfl_on_probabilities(prob, arrays)
    assert loss.isfinite().all() and (loss >= 0).all()
    (gradient,) = torch.autograd.grad(loss.sum(), prob)
    assert gradient.isfinite().all()
    is_object = arrays["score"] > 0
    assert (gradient[~is_object] >= 0).all()
    at_object = gradient[is_object, arrays["label"][is_object]]
    below = prob[is_object, arrays["label"][is_object]] < arrays["score"][is_object]
    assert (at_object[below] <= 0).all() and (at_object[~below] >= 0).all()


def test_golden_distribution_focal_loss():
    arrays = golden("losses_dfl")
    pred = arrays["pred"].requires_grad_()
    loss_elem = distribution_focal_loss(pred, arrays["label"])
    torch.testing.assert_close(loss_elem, arrays["loss_elem"], **CLOSE)
    (gradient,) = torch.autograd.grad(loss_elem.sum(), pred, retain_graph=True)
    torch.testing.assert_close(gradient, arrays["grad_pred_elem_sum"], **CLOSE)
    loss = arrays["loss_weight"] * (loss_elem * arrays["weight"]).sum() / arrays["avg_factor"]
    torch.testing.assert_close(loss, arrays["loss"], **CLOSE)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    torch.testing.assert_close(gradient, arrays["grad_pred"], **CLOSE)


def has_ties(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Rows on ties of max and min, where the gradient depends on a convention."""
    low1, high1, low2, high2 = boxes1[:, :2], boxes1[:, 2:], boxes2[:, :2], boxes2[:, 2:]
    pairs = ((low1, low2), (high1, high2), (low1, high2), (high1, low2), (low1, high1))
    return torch.stack([(one == other).any(dim=1) for one, other in pairs]).any(dim=0)


def test_golden_giou_loss_and_iou():
    arrays = golden("losses_giou")
    pred = arrays["pred"].requires_grad_()
    iou, giou = paired_iou(pred, arrays["target"])
    loss_elem = 1 - giou
    torch.testing.assert_close(loss_elem, arrays["loss_elem"], **CLOSE)
    (gradient,) = torch.autograd.grad(loss_elem.sum(), pred)
    smooth = ~has_ties(pred, arrays["target"])
    torch.testing.assert_close(gradient[smooth], arrays["grad_pred_elem_sum"][smooth], **CLOSE)
    torch.testing.assert_close(iou, arrays["iou_aligned"], **CLOSE)


@pytest.mark.parametrize("weight", ("ones", "rand"))
def test_golden_quality_loss(weight):
    arrays = golden("losses_iou_bce")
    logits = arrays["logits"].requires_grad_()
    loss_elem = quality_loss(logits, arrays["target"])
    torch.testing.assert_close(loss_elem, arrays["loss_elem"], **CLOSE)
    loss = (loss_elem * arrays[f"weight_{weight}"]).sum() / arrays["avg_factor"]
    torch.testing.assert_close(loss, arrays[f"loss_{weight}"], **CLOSE)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, arrays[f"grad_logits_{weight}"], **CLOSE)


def test_golden_integral():
    arrays = golden("losses_misc")
    logits = arrays["logits"].double().requires_grad_()
    distances = expected_distances(logits.unflatten(1, (4, -1)))
    torch.testing.assert_close(distances.float(), arrays["integral"], **CLOSE)
    (gradient,) = torch.autograd.grad((distances * arrays["cotangent"]).sum(), logits)
    torch.testing.assert_close(gradient.float(), arrays["grad_logits"], rtol=1e-5, atol=2e-6)


def test_golden_distance_coding():
    """Points with a stride of 1 and of another: an anchor is a square of 8 strides around each."""
    arrays = golden("losses_misc")
    reg_max = len(arrays["project"]) - 1
    transform = DistributionBoxTransform(reg_max)
    # The name of one array says by what points are multiplied and in what image boxes end.
    (clamped,) = [key for key in arrays if key.startswith("distance2bbox_x")]
    larger, height, width = map(int, re.findall(r"(?<=_[xhw])\d+", clamped))
    points = arrays["points"].double()
    for stride in (1, larger):
        half = 4 * stride
        anchors = torch.cat((points * stride - half, points * stride + half), dim=1)
        boxes = transform.apply_deltas(arrays["logits"].double(), anchors)
        torch.testing.assert_close(
            boxes.float(), arrays["distance2bbox"] * stride, rtol=1e-5, atol=1e-5
        )
        targets = transform.get_deltas(anchors, arrays["gt_boxes"].double() * stride)
        torch.testing.assert_close(targets.float(), arrays[f"bbox2distance_max{reg_max}"], **CLOSE)
    clipped = Boxes(boxes)
    clipped.clip((height, width))
    expected = arrays[clamped]
    torch.testing.assert_close(clipped.tensor.float(), expected, rtol=1e-5, atol=1e-4)


def test_golden_joint_score():
    arrays = golden("losses_misc")
    logits = arrays["cls_logits"].double().requires_grad_()
    quality = arrays["quality_logits"].double().requires_grad_()
    log_p, log_1mp = joint_scores(logits, quality, float(arrays["alpha"]))
    score = log_p.exp()
    torch.testing.assert_close(score.float(), arrays["joint_score"], **CLOSE)
    torch.testing.assert_close(1 - log_1mp.exp(), score, rtol=1e-6, atol=1e-7)
    cotangent = arrays["joint_cotangent"]
    gradients = torch.autograd.grad((score * cotangent).sum(), (logits, quality))
    torch.testing.assert_close(gradients[0].float(), arrays["grad_cls_logits"], **CLOSE)
    torch.testing.assert_close(gradients[1].float(), arrays["grad_quality_logits"], **CLOSE)
