"""Inputs of a deformable convolution, and torchvision's operator to compare with."""

import torch
from torchvision.ops import deform_conv2d

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
