"""The three forms of the deformable convolution: equal in value and in gradient."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from clq.modeling import bag_deform_conv
from clq.modeling.bag_deform_conv import deform_conv3x3_by_embedding_bag
from clq.modeling.deform_conv import deform_conv3x3, deform_conv3x3_by_grid_sample

FORMS = (deform_conv3x3_by_embedding_bag, deform_conv3x3_by_grid_sample)
# Maps: ordinary, smaller than the kernel, one row, one column, one cell.
SIZES = ((9, 7), (2, 3), (1, 6), (5, 1), (1, 1))


def inputs(size, *, spread, groups=4, channels=8, dtype=torch.float64, seed=0):
    """Feature, offsets that stay off the integers, where one-sided derivatives differ, weight."""
    generator = torch.Generator().manual_seed(seed)
    feature = torch.randn(2, channels, *size, generator=generator, dtype=dtype)
    offset = torch.randn(2, groups * 18, *size, generator=generator, dtype=dtype) * spread
    fraction = (offset - offset.floor()).clamp(0.05, 0.95)
    weight = torch.randn(6, channels, 3, 3, generator=generator, dtype=dtype)
    return feature, offset.floor() + fraction, weight


def assert_equal_to_torchvision(form, tensors):
    """In value and in gradient."""
    tensors = [x.requires_grad_() for x in tensors]
    expected, actual = deform_conv2d(*tensors, padding=1), form(*tensors)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(expected)
    ours = torch.autograd.grad((actual * cotangent).sum(), tensors)
    references = torch.autograd.grad((expected * cotangent).sum(), tensors)
    for gradient, reference in zip(ours, references):
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", (0.5, 3.0, 40.0))
def test_equal_to_torchvision_in_value_and_gradient(form, size, spread):
    assert_equal_to_torchvision(form, inputs(size, spread=spread))


@pytest.mark.parametrize("block", (1, 4, 5, 63, 64))
def test_blocks_of_any_number_of_cells_give_the_same(monkeypatch, block):
    """Of a map of 63 cells: one by one, with a rest, all, and more than all."""
    monkeypatch.setattr(bag_deform_conv, "_BLOCK", block)
    assert_equal_to_torchvision(deform_conv3x3_by_embedding_bag, inputs((9, 7), spread=3.0))


@pytest.mark.parametrize("size", SIZES)
def test_bags_take_the_same_one_sided_derivatives_as_torchvision(size):
    """Whole offsets put every sample on a kink, many of them on row -1 or on that past the last."""
    feature, offset, weight = inputs(size, spread=3.0)
    assert_equal_to_torchvision(deform_conv3x3_by_embedding_bag, (feature, offset.floor(), weight))


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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("groups", (1, 2, 8))
def test_any_number_of_groups(form, groups):
    tensors = inputs((6, 5), spread=2.0, groups=groups)
    torch.testing.assert_close(form(*tensors), deform_conv2d(*tensors, padding=1))


@pytest.mark.parametrize("form", FORMS)
def test_zero_offsets_are_an_ordinary_convolution(form):
    feature, offset, weight = inputs((9, 7), spread=1.0)
    expected = torch.nn.functional.conv2d(feature, weight, padding=1)
    torch.testing.assert_close(form(feature, torch.zeros_like(offset), weight), expected)


@pytest.mark.parametrize("form", FORMS)
def test_samples_on_and_beyond_the_border(form):
    """Whole offsets put samples exactly on the last row, on row -1 and far outside."""
    feature, offset, weight = inputs((4, 4), spread=1.0)
    for shift in (-4.0, -3.0, -1.0, 1.0, 3.0, 4.0):
        whole = torch.full_like(offset, shift)
        expected = deform_conv2d(feature, whole, weight, padding=1)
        torch.testing.assert_close(form(feature, whole, weight), expected)


def test_channels_last_features_are_served():
    feature, offset, weight = inputs((9, 7), spread=2.0, dtype=torch.float32)
    last = feature.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        deform_conv3x3(last, offset, weight), deform_conv2d(feature, offset, weight, padding=1)
    )


def test_cpu_takes_the_embedding_bag_and_export_the_grid_sample(monkeypatch):
    tensors = inputs((6, 5), spread=2.0, dtype=torch.float32)
    assert torch.equal(deform_conv3x3(*tensors), deform_conv3x3_by_embedding_bag(*tensors))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(deform_conv3x3(*tensors), deform_conv3x3_by_grid_sample(*tensors))


def test_half_precision_features_are_sampled_in_the_precision_of_the_offsets():
    """A large offset in bf16 would be off by a good part of a cell."""
    feature, offset, weight = inputs((9, 7), spread=4.0, dtype=torch.float32)
    half = feature.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = deform_conv3x3(half, offset, weight)
    assert actual.dtype == torch.bfloat16
    expected = deform_conv2d(half.float(), offset, weight, padding=1)
    scale = expected.abs().max()
    assert ((actual.float() - expected).abs() / scale).max() < 2e-2


def test_a_sample_that_is_not_a_number_shows_in_the_output():
    feature, offset, weight = inputs((4, 4), spread=1.0, dtype=torch.float32)
    offset[0, 0, 0, 0] = torch.nan
    assert deform_conv3x3(feature, offset, weight).isnan().any()
