"""Losses against hand numbers, against libraries and against the probability form."""

import math

import pytest
import torch
from fvcore.nn import giou_loss, sigmoid_focal_loss

from clq.modeling import joint_scores
from clq.modeling.losses import (
    FocalLoss,
    QualityFocalLoss,
    distribution_focal_loss,
    paired_iou,
    quality_focal_loss,
    quality_loss,
)
from reference.devices import on_device

pytestmark = pytest.mark.usefixtures("device")

joint_scores, distribution_focal_loss, paired_iou, quality_focal_loss, quality_loss = map(
    on_device,
    (joint_scores, distribution_focal_loss, paired_iou, quality_focal_loss, quality_loss),
)


def test_quality_focal_loss_by_hand():
    """p = 0.3 towards t = 0.8: |0.5|^2 * -(0.8 ln 0.3 + 0.2 ln 0.7)."""
    p = torch.tensor(0.3)
    loss = quality_focal_loss(p.log(), (1 - p).log(), torch.tensor(0.8))
    assert loss.item() == pytest.approx(
        0.25 * -(0.8 * math.log(0.3) + 0.2 * math.log(0.7)), rel=1e-6
    )


def test_quality_focal_loss_equals_the_probability_form():
    """Value and gradient for 1e-6 < p < 0.99, where the probability form is sound."""
    generator = torch.Generator().manual_seed(0)
    c = torch.empty(4000, 1).uniform_(-9, 8, generator=generator).requires_grad_()
    q = torch.empty(4000, 1).uniform_(-5, 9, generator=generator).requires_grad_()
    target = torch.rand(4000, 1, generator=generator)
    p = c.sigmoid() * q.sigmoid().pow(0.3)
    plain = torch.nn.functional.binary_cross_entropy(p, target, reduction="none")
    plain = plain * (target - p).square()
    ours = quality_focal_loss(*joint_scores(c, q, 0.3), target)
    sound = ((p > 1e-6) & (p < 0.99)).detach()
    assert sound.float().mean() > 0.9
    torch.testing.assert_close(ours[sound], plain[sound], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.sum(), plain.sum(), rtol=1e-5, atol=0)
    for actual, expected in zip(
        torch.autograd.grad(ours.sum(), (c, q)), torch.autograd.grad(plain.sum(), (c, q))
    ):
        torch.testing.assert_close(actual[sound], expected[sound], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha, gamma", ((0.25, 2.0), (0.6, 1.5), (0.25, 0.0)))
def test_focal_loss_equals_fvcore(alpha, gamma):
    """In the range where the library's 1 - p keeps its digits; it always computes in fp32."""
    logits = torch.linspace(-5, 5, 40).requires_grad_()
    target = (torch.arange(40) % 3 == 0).float()
    expected = sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), logits)
    log_p, log_1mp = joint_scores(logits[:, None], None, 0.0)
    loss = FocalLoss(gamma, alpha=alpha)(log_p, log_1mp, target[:, None])
    torch.testing.assert_close(loss.squeeze(1), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_focal_loss_by_hand():
    """p = 1/2: an object 0.25 * (1/2)^2 * log 2, background 0.75 * (1/2)^2 * log 2."""
    half = torch.full((2,), 0.5).log()
    loss = FocalLoss()(half, half, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, torch.tensor([0.0625, 0.1875]) * torch.log(torch.tensor(2.0)))


def test_targets_of_the_class_losses():
    iou = torch.tensor([0.25, 0.8])
    assert QualityFocalLoss().target(iou) is iou
    assert torch.equal(QualityFocalLoss(hard_target=True).target(iou), torch.ones(2))
    assert torch.equal(FocalLoss().target(iou), torch.ones(2))


def test_sample_counts_of_the_class_losses():
    """Three images with 2, 0 and 1 positives."""
    is_positive = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=torch.bool)
    assert QualityFocalLoss().num_samples(is_positive) == 4
    assert FocalLoss().num_samples(is_positive) == 3


def test_distribution_focal_loss_by_hand():
    """Uniform over 17 bins: every bin costs ln 17. One sharp bin 3: t = 3.25 costs 1/4 of it."""
    uniform = distribution_focal_loss(torch.zeros(1, 17), torch.tensor([3.25]))
    assert uniform.item() == pytest.approx(math.log(17), rel=1e-6)
    logits = torch.zeros(1, 17)
    logits[0, 3] = 5.0
    log_total = math.log(16 + math.exp(5))
    expected = 0.75 * (log_total - 5) + 0.25 * log_total
    sharp = distribution_focal_loss(logits, torch.tensor([3.25]))
    assert sharp.item() == pytest.approx(expected, rel=1e-6)


def test_distribution_focal_loss_at_the_ends():
    logits = torch.randn(2, 17, generator=torch.Generator().manual_seed(0))
    loss = distribution_focal_loss(logits, torch.tensor([0.0, 15.9]))
    log_prob = logits.log_softmax(-1)
    assert loss[0].item() == pytest.approx(-log_prob[0, 0].item(), rel=1e-6)
    expected = -(0.1 * log_prob[1, 15] + 0.9 * log_prob[1, 16]).item()
    assert loss[1].item() == pytest.approx(expected, rel=1e-5)


def test_quality_loss_by_hand():
    """sigmoid(0) = 0.5 costs ln 2 whatever the IoU."""
    loss = quality_loss(torch.zeros(2, dtype=torch.float16), torch.tensor([0.1, 0.9]))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.full((2,), math.log(2)))


def test_paired_iou_by_hand():
    """Unit squares: half over each other, apart by one, and the same."""
    square = torch.tensor([0.0, 0.0, 1.0, 1.0])
    shifts = torch.tensor([[0.5, 0.0], [2.0, 0.0], [0.0, 0.0]])
    iou, giou = paired_iou(square.repeat(3, 1), square + shifts.repeat(1, 2))
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 0.0, 1.0]))
    torch.testing.assert_close(giou, torch.tensor([1 / 3, -1 / 3, 1.0]))


def test_generalized_iou_equals_fvcore_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 500, 2, 2, generator=generator).double() * 10
    boxes = torch.cat((corners.amin(dim=2), corners.amax(dim=2)), dim=2)
    pred, target = boxes[0].requires_grad_(), boxes[1]
    ours, expected = 1 - paired_iou(pred, target)[1], giou_loss(pred, target)
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad(x.sum(), pred)[0] for x in (ours, expected)]
    torch.testing.assert_close(*gradients)
