"""The matcher against a plain reading of ATSS, and what it does with unusual ground truth."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes

from clq.modeling import ATSSMatcher
from reference.atss import plain_atss

STRIDES = (8, 16, 32, 64, 128)


def make_anchors(height: int, width: int, strides=STRIDES) -> list[Boxes]:
    generator = DefaultAnchorGenerator(
        sizes=[[8 * s] for s in strides], aspect_ratios=[1.0], strides=strides, offset=0.0
    )
    return generator([torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in strides])


def random_boxes(count: int, size: float, spread: float, seed: int) -> Boxes:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread - 0.1 * spread
    return Boxes(torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * size), 1))


def assert_equal_to_plain_atss(anchors, gt_boxes, topk=9, valid_hw=None):
    matched_idxs, labels = ATSSMatcher(topk)(anchors, gt_boxes, valid_hw=valid_hw)
    assert matched_idxs.dtype == torch.int64 and labels.dtype == torch.int8
    expected_idxs, expected_labels = plain_atss(anchors, gt_boxes, topk, valid_hw)
    assert torch.equal(labels, expected_labels)
    is_matched = labels == 1
    assert torch.equal(matched_idxs[is_matched], expected_idxs[is_matched])
    return labels


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", (4, 40, 400))
def test_random_boxes(seed, size):
    """Sub-stride, ordinary and huge boxes, some partly or wholly outside the image."""
    anchors = make_anchors(160, 224)
    assert_equal_to_plain_atss(anchors, random_boxes(25, size, 260, seed))


@pytest.mark.parametrize("seed", range(4))
def test_batch_padding_is_neither_candidate_nor_background(seed):
    anchors = make_anchors(192, 256)
    labels = assert_equal_to_plain_atss(
        anchors, random_boxes(12, 90, 200, seed), valid_hw=(96, 160)
    )
    centers = Boxes.cat(anchors).get_centers()
    outside = (centers[:, 0] >= 160) | (centers[:, 1] >= 96)
    assert torch.equal(labels == -1, outside) and (labels == 1).any()


@pytest.mark.parametrize("topk", (1, 2, 30))
def test_any_number_of_candidates(topk):
    assert_equal_to_plain_atss(make_anchors(96, 96), random_boxes(10, 80, 96, 0), topk)


def test_exact_ties_in_distance_take_the_lower_anchor():
    """A box centred between cells, and on a cell's corner, has many equally near anchors."""
    boxes = Boxes(torch.tensor([[36.0, 36.0, 84.0, 84.0], [20.0, 40.0, 60.0, 80.0]]))
    labels = assert_equal_to_plain_atss(make_anchors(128, 128), boxes, topk=2)
    assert (labels == 1).any()


def test_equal_boxes_go_to_the_lower_index():
    box = torch.tensor([[30.0, 30.0, 90.0, 95.0]])
    matched_idxs, labels = ATSSMatcher(9)(make_anchors(128, 128), Boxes(box.repeat(3, 1)))
    assert (labels == 1).any() and (matched_idxs[labels == 1] == 0).all()


def test_one_candidate_is_its_own_threshold():
    """A single level with a single anchor: its standard deviation does not exist."""
    anchors = make_anchors(128, 128, strides=(128,))
    labels = assert_equal_to_plain_atss(anchors, Boxes(torch.tensor([[-50.0, -50.0, 50.0, 50.0]])))
    assert labels.tolist() == [1]


def test_one_level():
    assert_equal_to_plain_atss(make_anchors(64, 64, strides=(16,)), random_boxes(6, 50, 64, 1))


def test_no_boxes_is_all_background():
    anchors = make_anchors(64, 64)
    matched_idxs, labels = ATSSMatcher(9)(anchors, Boxes(torch.zeros(0, 4)))
    assert labels.shape == matched_idxs.shape == (sum(map(len, anchors)),)
    assert (labels == 0).all()


def test_a_box_between_the_cells_stays_unmatched():
    """No anchor centre lies inside a 2 px box around (4, 4)."""
    boxes = Boxes(torch.tensor([[3.0, 3.0, 5.0, 5.0]]))
    assert not (ATSSMatcher(9)(make_anchors(64, 64), boxes)[1] == 1).any()


def test_inside_means_by_more_than_a_hundredth_of_a_pixel():
    """The centre (64, 64) lies 0.01 px inside the first box's left side, 0.02 px in the second."""
    anchors = make_anchors(128, 128, strides=(64,))
    index = 3  # the cell (1, 1)
    labels = []
    for margin in (0.01, 0.02):
        box = torch.tensor([[64 - margin, 40.0, 400.0, 400.0]], dtype=torch.float64).float()
        labels.append(ATSSMatcher(1)(anchors, Boxes(box))[1][index].item())
    near_side, inside = labels
    assert (near_side, inside) == (0, 1)
