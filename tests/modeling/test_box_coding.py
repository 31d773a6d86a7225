"""Distributions to distances to boxes, and back."""

import pytest
import torch

from clq.modeling import DistributionBoxTransform
from clq.modeling.box_coding import expected_distances


def logits_of(distances: torch.Tensor, reg_max: int = 16) -> torch.Tensor:
    """Logits whose expectation is the distance: its two neighbouring bins share it."""
    low = distances.floor().clamp(max=reg_max - 1)
    bins = torch.arange(reg_max + 1)
    weight = (1 - (bins - distances.unsqueeze(-1)).abs()).clamp(min=0)
    assert (low >= 0).all()
    return weight.clamp(min=1e-30).log().flatten(-2)


def test_decode_by_hand():
    """Stride 8, anchor centred at (80, 40): l, t, r, b = 1, 2, 3.5, 0.25 strides."""
    anchors = torch.tensor([[48.0, 8.0, 112.0, 72.0]])
    distances = torch.tensor([[1.0, 2.0, 3.5, 0.25]])
    boxes = DistributionBoxTransform().apply_deltas(logits_of(distances), anchors)
    torch.testing.assert_close(boxes, torch.tensor([[72.0, 24.0, 108.0, 42.0]]))


def test_targets_are_the_inverse_of_decoding():
    generator = torch.Generator().manual_seed(0)
    transform = DistributionBoxTransform()
    stride = 2.0 ** torch.randint(3, 8, (50, 1), generator=generator)
    centers = torch.rand(50, 2, generator=generator).repeat(1, 2) * 500
    anchors = centers + torch.tensor([-4.0, -4.0, 4.0, 4.0]) * stride
    distances = torch.rand(50, 4, generator=generator) * 15.8
    boxes = transform.apply_deltas(logits_of(distances), anchors)
    torch.testing.assert_close(transform.get_deltas(anchors, boxes), distances, atol=1e-4, rtol=0)


def test_targets_are_clamped_so_that_two_bins_surround_them():
    anchors = torch.tensor([[-32.0, -32.0, 32.0, 32.0]])  # stride 8, centred at 0
    targets = DistributionBoxTransform().get_deltas(
        anchors, torch.tensor([[-8.0, 8.0, 1000.0, 127.9]])
    )
    torch.testing.assert_close(targets, torch.tensor([[1.0, 0.0, 15.9, 15.9]]))


def test_dense_and_sparse_decoding_agree():
    maps = torch.randn(2, 4 * 17, 3, 5, generator=torch.Generator().manual_seed(0))
    transform = DistributionBoxTransform()
    dense = transform.distances(maps).permute(0, 2, 3, 1).reshape(-1, 4)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, 4, 17)
    torch.testing.assert_close(dense, expected_distances(rows))
    last_format = transform.distances(maps.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last_format.permute(0, 2, 3, 1).reshape(-1, 4), dense)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_half_precision_is_decoded_in_single(dtype):
    logits = torch.randn(6, 68, generator=torch.Generator().manual_seed(0)).to(dtype)
    anchors = torch.tensor([[1000.0, 1000.0, 1064.0, 1064.0]]).repeat(6, 1)
    boxes = DistributionBoxTransform().apply_deltas(logits, anchors)
    assert boxes.dtype == torch.float32
    expected = DistributionBoxTransform().apply_deltas(logits.double(), anchors.double())
    torch.testing.assert_close(boxes.double(), expected, rtol=1e-6, atol=1e-4)


def test_no_boxes():
    transform = DistributionBoxTransform()
    assert transform.apply_deltas(torch.zeros(0, 68), torch.zeros(0, 4)).shape == (0, 4)
    assert transform.get_deltas(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
