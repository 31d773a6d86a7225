"""Chunked sums against the sum of all rows."""

import pytest
import torch

from clq.modeling import joint_scores
from clq.modeling.chunked_sum import chunked_sum
from clq.modeling.losses import FocalLoss, QualityFocalLoss

ROWS, CLASSES = 23, 5


def inputs(rows=ROWS, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, CLASSES, generator=generator).to(dtype).requires_grad_()
    quality = torch.randn(rows, 1, generator=generator).to(dtype).requires_grad_()
    return logits, quality, torch.rand(rows, 1, generator=generator) < 0.7


def background(class_loss=QualityFocalLoss()):
    def loss(logits, quality, is_background):
        log_p, log_1mp = joint_scores(logits, quality, 0.3)
        return class_loss(log_p, log_1mp, log_p.new_zeros(())) * is_background

    return loss


def assert_equal_to_the_whole(loss, tensors, *, rtol=1e-6, scale=3.0):
    """In value and, with a factor in between, in gradient."""
    leaves = [x for x in tensors if x.requires_grad]
    expected, actual = loss(*tensors).sum(), chunked_sum(loss, *tensors)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-7)
    gradients = [torch.autograd.grad(scale * total, leaves) for total in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=rtol, atol=1e-7)


# Elements of a chunk: less than a row, a row, with a rest, all, more than all.
@pytest.mark.parametrize("elements", (1, CLASSES, 4 * CLASSES, ROWS * CLASSES, 1000))
@pytest.mark.parametrize("class_loss", (QualityFocalLoss(), FocalLoss(2.0)))
def test_chunks_of_any_size(monkeypatch, elements, class_loss):
    monkeypatch.setattr("clq.modeling.chunked_sum._CPU_CHUNK", elements)
    assert_equal_to_the_whole(background(class_loss), inputs())


def test_no_rows_are_a_sum_of_zero_in_the_graph():
    assert_equal_to_the_whole(background(), inputs(rows=0))
    assert chunked_sum(background(), *inputs(rows=0)).requires_grad


def test_an_input_without_effect_has_a_gradient_of_zero():
    logits, quality, _ = inputs()
    chunked_sum(lambda x, y: x.exp(), logits, quality).backward()
    assert torch.equal(quality.grad, torch.zeros_like(quality))


def test_inputs_without_gradient():
    tensors = inputs()
    with torch.no_grad():
        total = chunked_sum(background(), *tensors)
    torch.testing.assert_close(total, background()(*tensors).sum().detach())
    frozen = [x.detach() for x in tensors]
    assert not chunked_sum(background(), *frozen).requires_grad


def test_a_gradient_below_half_precision_is_scaled_before_it_is_rounded():
    """A sum of logits / 2^30 has a gradient that fp16 can't hold, times 2^20 one that it can."""
    logits = torch.ones(3, 2, dtype=torch.float16, requires_grad=True)
    total = chunked_sum(lambda x: x.float() * 2.0**-30, logits)
    (total * 2.0**20).backward()
    assert logits.grad.dtype == torch.float16
    assert torch.equal(logits.grad, torch.full_like(logits, 2.0**-10))


def test_nan_is_propagated():
    logits, quality, is_background = inputs()
    with torch.no_grad():
        logits[7, 2] = torch.nan
    assert chunked_sum(background(), logits, quality, is_background).isnan()


def test_no_more_than_the_gradients_stays_in_memory():
    """Autograd itself would keep more than ten tensors like the 2000 rows of logits."""
    total = chunked_sum(background(), *inputs(rows=2000))
    assert [x.numel() for x in total.grad_fn.saved_tensors] == [2000 * CLASSES, 2000]
