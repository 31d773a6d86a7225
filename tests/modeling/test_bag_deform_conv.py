"""The convolution by embedding bags: its blocks, its kinks, and what the compiler is told."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from clq.modeling import bag_deform_conv
from clq.modeling.bag_deform_conv import deform_conv3x3_by_embedding_bag
from reference.deform_conv import SIZES, assert_equal_to_torchvision, inputs


@pytest.mark.parametrize("block", (1, 4, 5, 63, 64))
def test_blocks_of_any_number_of_cells_give_the_same(monkeypatch, block):
    """A map of 63 cells: one by one, with a rest, all, and more than all."""
    monkeypatch.setattr(bag_deform_conv, "_CPU_BLOCK", block)
    assert_equal_to_torchvision(deform_conv3x3_by_embedding_bag, inputs((9, 7), spread=3.0))


@pytest.mark.parametrize("size", SIZES)
def test_bags_take_the_same_one_sided_derivatives_as_torchvision(size):
    """Whole offsets put every sample on a kink, many of them on row -1 or on that past the last."""
    feature, offset, weight = inputs(size, spread=3.0)
    assert_equal_to_torchvision(deform_conv3x3_by_embedding_bag, (feature, offset.floor(), weight))


def test_an_empty_batch_is_one_of_no_maps():
    tensors = [x[:0] if i < 2 else x for i, x in enumerate(inputs((5, 6), spread=2.0))]
    assert_equal_to_torchvision(deform_conv3x3_by_embedding_bag, tensors)


def test_an_upstream_gradient_of_any_layout_is_taken():
    """Transposed, every second column of another, or one number for all."""
    tensors = [x.requires_grad_() for x in inputs((6, 5), spread=2.0)]
    generator = torch.Generator().manual_seed(1)
    for upstream in (
        torch.randn(2, 6, 5, 6, generator=generator).double().transpose(2, 3),
        torch.randn(2, 6, 6, 10, generator=generator).double()[..., ::2],
        torch.ones(()).double().expand(2, 6, 6, 5),
    ):
        ours, expected = (
            torch.autograd.grad(form(*tensors), tensors, upstream)
            for form in (deform_conv3x3_by_embedding_bag, lambda *x: deform_conv2d(*x, padding=1))
        )
        for gradient, reference in zip(ours, expected):
            torch.testing.assert_close(gradient, reference)


def test_the_operators_are_what_they_say_to_the_compiler():
    """Shapes, strides and gradients that PyTorch's own check of an operator compares."""
    tensors = [x.float().requires_grad_() for x in inputs((5, 6), spread=2.0)]
    torch.library.opcheck(bag_deform_conv._convolve, (*tensors, torch.float32))


def test_autocast_takes_the_products_in_half_precision_and_gives_gradients_in_full():
    tensors = [x.float() for x in inputs((9, 7), spread=2.0)]
    exact = [x.clone().requires_grad_() for x in tensors]
    half = [x.clone().requires_grad_() for x in tensors]
    expected = deform_conv3x3_by_embedding_bag(*exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = deform_conv3x3_by_embedding_bag(*half)
    assert actual.dtype == torch.bfloat16
    expected.sum().backward()
    actual.float().sum().backward()
    for ours, reference in zip(half, exact):
        error = (ours.grad - reference.grad).abs().max() / reference.grad.abs().max()
        assert ours.grad.dtype == torch.float32 and 0 < error < 2e-2
