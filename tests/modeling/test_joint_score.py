"""The joint score in log space: exact against float64, finite everywhere."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clq.modeling import joint_scores
from clq.modeling.joint_score import log_joint_scores
from clq.modeling.losses import quality_focal_loss

ALPHAS = (0.15, 0.3, 0.5, 1.0)


def all_logits(step: float = 2.5) -> tuple[Tensor, Tensor]:
    """Every pair of c and q in [-120, 120], as (S, 1) each."""
    axis = torch.arange(-120.0, 120.0 + step, step)
    c, q = torch.meshgrid(axis, axis, indexing="ij")
    return c.reshape(-1, 1), q.reshape(-1, 1)


def plain_log_scores(c: Tensor, q: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) term by term in float64, whose range holds every term."""
    c, q = c.double(), q.double()
    log_s = alpha * F.logsigmoid(q)
    log_p = F.logsigmoid(c) + log_s
    one_minus_p = -torch.expm1(log_s) + torch.exp(log_s + F.logsigmoid(-c))
    small = log_p < math.log(0.5)
    log_of_small = torch.log1p(-log_p.masked_fill(~small, -1).exp())
    return log_p, torch.where(small, log_of_small, one_minus_p.log())


@pytest.mark.parametrize("alpha", ALPHAS)
def test_value_and_gradient_match_float64_over_the_whole_range(alpha):
    c, q = (x.requires_grad_() for x in all_logits())
    for actual, expected in zip(joint_scores(c, q, alpha), plain_log_scores(c, q, alpha)):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), expected, rtol=3.5e-5, atol=1e-30)
        gradients = torch.autograd.grad(actual.sum(), (c, q), retain_graph=True)
        references = torch.autograd.grad(expected.sum(), (c, q), retain_graph=True)
        for gradient, reference in zip(gradients, references):
            assert gradient.isfinite().all()
            torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-30)


def test_quality_exponent_zero_leaves_the_class_probability():
    c, q = (x.requires_grad_() for x in all_logits(10))
    log_p, log_1mp = joint_scores(c, q, 0)
    torch.testing.assert_close(log_p, F.logsigmoid(c))
    torch.testing.assert_close(log_1mp, F.logsigmoid(-c))
    (gradient,) = torch.autograd.grad((log_p + log_1mp).sum(), c)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_half_precision_logits_give_single_precision_scores(dtype):
    c = torch.tensor([[12.0, -12.0, 0.5]], dtype=dtype)
    q = torch.tensor([[20.0]], dtype=dtype)
    log_p, log_1mp = joint_scores(c, q, 0.3)
    assert log_p.dtype == log_1mp.dtype == torch.float32
    expected = plain_log_scores(c.float(), q.float(), 0.3)
    torch.testing.assert_close(log_1mp, expected[1].float(), rtol=3.5e-5, atol=0)
    assert log_p.max() < 0  # the probability is below 1, which fp16 can't tell


def test_hand_numbers():
    """c = 0 and q = 0: p = 0.5 * 0.5^0.3."""
    log_p, log_1mp = joint_scores(torch.zeros(1, 1), torch.zeros(1, 1), 0.3)
    assert log_p.exp().item() == pytest.approx(0.5 * 0.5**0.3, rel=1e-6)
    assert log_1mp.exp().item() == pytest.approx(1 - 0.5 * 0.5**0.3, rel=1e-6)


@pytest.mark.parametrize("target", (0.0, 0.4, 1.0))
def test_quality_focal_loss_of_saturated_scores_is_finite_and_pulls_the_right_way(target):
    """Inputs for which the probability form is inf or loses its gradient."""
    c, q = (x.requires_grad_() for x in all_logits(10))
    log_p, log_1mp = joint_scores(c, q, 0.3)
    loss = quality_focal_loss(log_p, log_1mp, torch.tensor(target))
    assert loss.isfinite().all() and (loss >= 0).all()
    gradients = torch.autograd.grad(loss.sum(), (c, q))
    above = log_p.detach().exp() > target
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient[above] >= 0).all() and (gradient[~above] <= 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("has_quality", [True, False])
def test_inference_ranks_by_the_half_that_the_loss_trains(alpha: float, has_quality: bool):
    logits = torch.linspace(-30, 30, 61).view(-1, 1)
    quality = logits.flip(0) if has_quality else None
    expected, _ = joint_scores(logits, quality, alpha)
    assert torch.equal(log_joint_scores(logits, quality, alpha), expected)
