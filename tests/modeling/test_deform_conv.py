"""The three forms of the deformable convolution: equal in value and in gradient."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from clq.modeling.bag_deform_conv import deform_conv3x3_by_embedding_bag
from clq.modeling.deform_conv import deform_conv3x3, deform_conv3x3_by_grid_sample
from reference.deform_conv import SIZES, assert_equal_to_torchvision, inputs

FORMS = (deform_conv3x3_by_embedding_bag, deform_conv3x3_by_grid_sample)


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
