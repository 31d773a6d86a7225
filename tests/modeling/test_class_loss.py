"""Class losses against the library, hand numbers and each other."""

import pytest
import torch
from fvcore.nn import sigmoid_focal_loss

from clq.modeling.class_loss import FocalLoss, QualityFocalLoss
from clq.modeling.joint_score import joint_scores

IOU = torch.tensor([0.25, 0.8])


@pytest.mark.parametrize("alpha, gamma", ((0.25, 2.0), (0.6, 1.5), (0.25, 0.0)))
def test_focal_loss_is_the_library_s(alpha, gamma):
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


def test_targets():
    assert QualityFocalLoss().target(IOU) is IOU
    assert torch.equal(QualityFocalLoss(hard_target=True).target(IOU), torch.ones(2))
    assert torch.equal(FocalLoss().target(IOU), torch.ones(2))


def test_normalisers():
    """Three images with 2, 0 and 1 positives."""
    is_positive = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=torch.bool)
    assert QualityFocalLoss().num_samples(is_positive) == 4
    assert FocalLoss().num_samples(is_positive) == 3
