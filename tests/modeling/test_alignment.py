"""The alignment moves what the classifier sees to where the predicted box lies."""

import torch

from clq.modeling.alignment import DeformableAlignment
from clq.modeling.bag_deform_conv import NUM_TAPS
from clq.modeling.deform_conv import deform_conv2d_by_grid_sample


def shifting_alignment(dy_per_top: float, dx_per_left: float) -> DeformableAlignment:
    """One channel and group whose centre tap moves by multiples of the top and left distance."""
    alignment = DeformableAlignment(1, offset_groups=1)
    centre = NUM_TAPS // 2
    with torch.no_grad():
        alignment.offset.weight.zero_()
        alignment.offset.weight[2 * centre, 1] = dy_per_top
        alignment.offset.weight[2 * centre + 1, 0] = dx_per_left
        alignment.conv.weight.zero_()
        alignment.conv.weight[0, 0, 1, 1] = 1.0
    return alignment


def test_offsets_follow_the_distances():
    """Top 2 strides and left 3: each cell sees the feature 2 rows up and 3 columns left."""
    feature = torch.rand(1, 1, 8, 8)
    distances = torch.zeros(1, 4, 8, 8)
    distances[:, 0], distances[:, 1] = 3.0, 2.0  # l, t
    aligned = shifting_alignment(-1.0, -1.0)(feature, distances)
    torch.testing.assert_close(aligned[..., 2:, 3:], feature[..., :-2, :-3])
    assert (aligned[..., :2, :] == 0).all() and (aligned[..., :, :3] == 0).all()


def test_half_a_cell_is_interpolated():
    feature = torch.rand(1, 1, 4, 4)
    distances = torch.ones(1, 4, 4, 4)
    aligned = shifting_alignment(0.0, 0.5)(feature, distances)
    expected = (feature[..., :-1] + feature[..., 1:]) / 2
    torch.testing.assert_close(aligned[..., :-1], expected)


def test_negative_responses_are_cut_off():
    aligned = shifting_alignment(0.0, 0.0)(-torch.rand(1, 1, 4, 4), torch.zeros(1, 4, 4, 4))
    assert (aligned == 0).all()


def test_classification_trains_the_distances():
    distances = torch.rand(1, 4, 6, 6, requires_grad=True)
    alignment = DeformableAlignment(8)
    alignment(torch.randn(1, 8, 6, 6), distances).sum().backward()
    assert distances.grad is not None and (distances.grad != 0).any()


def test_initial_weights():
    torch.manual_seed(0)
    alignment = DeformableAlignment(64)
    assert alignment.offset.bias is None and alignment.conv.bias is None
    assert abs(alignment.offset.weight.std().item() - 0.1) < 0.02
    assert abs(alignment.conv.weight.std().item() - 0.01) < 0.001


def test_another_form_of_the_operator_gives_the_same():
    torch.manual_seed(0)
    alignment = DeformableAlignment(8)
    feature, distances = torch.randn(2, 8, 6, 9), 4 * torch.rand(2, 4, 6, 9)
    expected = alignment(feature, distances)
    alignment.form = deform_conv2d_by_grid_sample
    torch.testing.assert_close(alignment(feature, distances), expected, rtol=1e-4, atol=1e-6)
    alignment.form = lambda *tensors, padding: torch.full((2, 8, 6, 9), padding - 3.0)
    assert (alignment(feature, distances) == 0).all()  # it is what runs, and ReLU follows
