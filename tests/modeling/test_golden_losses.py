"""Loss functions, distance coding and the joint score against the reference arrays."""

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
from reference.golden import golden

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
# Rows whose gradient depends on a convention: they sit on ties of max and min.
GIOU_TIES = [0, 4, 5]


def qfl_on_probabilities(prob: Tensor, arrays: dict[str, Tensor]) -> Tensor:
    """Loss of each element, through c = logit(p) and a quality that is certain."""
    logits = torch.logit(prob)
    log_p, log_1mp = joint_scores(logits, torch.full_like(logits[:, :1], 200.0), alpha=0.3)
    target = torch.zeros_like(prob)
    is_object = arrays["label"] < 7
    rows = is_object.nonzero().squeeze(1)
    target[rows, arrays["label"][rows]] = arrays["score"][rows].to(prob.dtype)
    return quality_focal_loss(log_p, log_1mp, target, float(arrays["beta"]))


@pytest.mark.parametrize("name", ("prob_c", "prob_c_plus_1", "prob_realistic"))
def test_golden_quality_focal_loss(name):
    arrays = golden(f"losses_qfl_{name}")
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
    """Where the probability form clamps, ours differs on purpose: finite and right-signed."""
    arrays = golden("losses_qfl_prob_extreme")
    prob = arrays["pred"].clamp(1e-30, 1 - 1e-7).requires_grad_()
    loss = qfl_on_probabilities(prob, arrays)
    assert loss.isfinite().all() and (loss >= 0).all()
    (gradient,) = torch.autograd.grad(loss.sum(), prob)
    assert gradient.isfinite().all()
    is_background = arrays["label"] >= 7
    assert (gradient[is_background] >= 0).all()
    at_object = gradient[~is_background, arrays["label"][~is_background]]
    below = prob[~is_background, arrays["label"][~is_background]] < arrays["score"][~is_background]
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


def test_golden_giou_loss_and_iou():
    arrays = golden("losses_giou")
    pred = arrays["pred"].requires_grad_()
    iou, giou = paired_iou(pred, arrays["target"])
    loss_elem = 1 - giou
    torch.testing.assert_close(loss_elem, arrays["loss_elem"], **CLOSE)
    (gradient,) = torch.autograd.grad(loss_elem.sum(), pred)
    smooth = torch.ones(len(pred), dtype=torch.bool).index_fill(0, torch.tensor(GIOU_TIES), False)
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
    """Points with a stride of 1 and of 8: an anchor is a square of 8 strides around its point."""
    arrays = golden("losses_misc")
    transform = DistributionBoxTransform(16)
    points = arrays["points"].double()
    for stride in (1, 8):
        half = 4 * stride
        anchors = torch.cat((points * stride - half, points * stride + half), dim=1)
        boxes = transform.apply_deltas(arrays["logits"].double(), anchors)
        torch.testing.assert_close(
            boxes.float(), arrays["distance2bbox"] * stride, rtol=1e-5, atol=1e-5
        )
        targets = transform.get_deltas(anchors, arrays["gt_boxes"].double() * stride)
        torch.testing.assert_close(targets.float(), arrays["bbox2distance_max16"], **CLOSE)
    clipped = Boxes(boxes)
    clipped.clip((300, 350))
    expected = arrays["distance2bbox_x8_clamped_h300_w350"]
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
