"""The forms of the deformable convolution: equal in value and in gradient."""

import functools
import itertools

import pytest
import torch
from torchvision.ops import deform_conv2d

from clq.modeling.bag_deform_conv import deform_conv3x3_by_embedding_bag
from clq.modeling.deform_conv import deform_conv2d_by_grid_sample, deform_conv3x3
from reference.deform_conv import SIZES, assert_equal_to_torchvision, inputs

by_grid_sample = functools.partial(deform_conv2d_by_grid_sample, padding=1)
FORMS = (deform_conv3x3_by_embedding_bag, by_grid_sample)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", (0.5, 3.0, 40.0))
def test_equal_to_torchvision_in_value_and_gradient(form, size, spread):
    assert_equal_to_torchvision(form, inputs(size, spread=spread))


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


def test_cpu_takes_the_embedding_bag_also_while_a_program_is_exported(monkeypatch):
    tensors = inputs((6, 5), spread=2.0, dtype=torch.float32)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(deform_conv3x3(*tensors), deform_conv3x3_by_embedding_bag(*tensors))


GEOMETRIES = [
    {"stride": stride, "padding": padding, "dilation": dilation}
    for stride, padding, dilation in itertools.product(
        (1, 2, (2, 1)), (0, 1, (2, 3)), (1, 2, (1, 2))
    )
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("kernel", ((3, 3), (1, 1), (2, 3)), ids=str)
@pytest.mark.parametrize("modulated", (False, True))
def test_plain_operators_take_any_geometry(geometry, kernel, modulated):
    """Groups of offsets and of channels differ, and offsets of 5 cells leave the map."""
    generator = torch.Generator().manual_seed(2)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    feature, weight = draw(2, 12, 7, 9), draw(8, 6, *kernel)
    plain = torch.nn.functional.conv2d(feature, weight, groups=2, **geometry)
    size, taps = plain.shape[2:], kernel[0] * kernel[1]
    offset = 5 * draw(2, 3 * taps * 2, *size)
    mask = draw(2, 3 * taps, *size) if modulated else None
    expected = deform_conv2d(feature, offset, weight, mask=mask, **geometry)
    actual = deform_conv2d_by_grid_sample(feature, offset, weight, mask=mask, **geometry)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(expected, plain)


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
