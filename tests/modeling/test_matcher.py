"""The matcher against a plain reading of ATSS, and what it does with unusual ground truth."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes

from clq.modeling import ATSSMatcher
from clq.modeling.nearest_anchors import AnchorGrid
from reference.atss import plain_atss
from reference.devices import on_device
from reference.host_waits import host_waits

pytestmark = pytest.mark.usefixtures("device")

STRIDES = (8, 16, 32, 64, 128)


def make_anchors(height: int, width: int, strides=STRIDES, offset=0.0, sides=None):
    """The anchors of each level, by default of 8 strides, and their grid."""
    sizes = [[side] for side in sides or [8 * s for s in strides]]
    generator = DefaultAnchorGenerator(
        sizes=sizes, aspect_ratios=[1.0], strides=strides, offset=offset
    )
    maps = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in strides]
    return generator(maps), AnchorGrid.of(strides, maps)


def random_boxes(count: int, size: float, spread: float, seed: int) -> Boxes:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread - 0.1 * spread
    return Boxes(torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * size), 1))


def match_both_ways(anchors, grid, gt_boxes, topk=9, valid_hw=None):
    """Match on the grid and without it, for one answer."""
    matcher = on_device(ATSSMatcher(topk))
    matched_idxs, labels = matcher(anchors, gt_boxes, valid_hw=valid_hw)
    on_grid = matcher(anchors, gt_boxes, grid=grid, valid_hw=valid_hw)
    assert torch.equal(on_grid[0], matched_idxs) and torch.equal(on_grid[1], labels)
    return matched_idxs, labels


def assert_equal_to_plain_atss(layout, gt_boxes, topk=9, valid_hw=None):
    matched_idxs, labels = match_both_ways(*layout, gt_boxes, topk, valid_hw)
    assert matched_idxs.dtype == torch.int64 and labels.dtype == torch.int8
    expected_idxs, expected_labels = plain_atss(layout[0], gt_boxes, topk, valid_hw)
    assert torch.equal(labels, expected_labels)
    is_matched = labels == 1
    assert torch.equal(matched_idxs[is_matched], expected_idxs[is_matched])
    return labels


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", (4, 40, 400))
def test_random_boxes(seed, size):
    """Sub-stride, ordinary and huge boxes, some partly or wholly outside the image."""
    assert_equal_to_plain_atss(make_anchors(160, 224), random_boxes(25, size, 260, seed))


@pytest.mark.parametrize("strides", (STRIDES, (4, 12, 25), (7,)))
@pytest.mark.parametrize("offset", (0.0, 0.5, 0.3))
def test_any_layout_of_the_generator(strides, offset):
    layout = make_anchors(150, 220, strides, offset)
    labels = assert_equal_to_plain_atss(layout, random_boxes(30, 120, 220, 0))
    assert (labels == 1).any()
    assert_equal_to_plain_atss(layout, random_boxes(30, 120, 220, 1), valid_hw=(96, 128))


@pytest.mark.parametrize("height, width", ((1, 1), (8, 2000), (33, 65), (2000, 8)))
def test_levels_smaller_than_the_candidates_wanted(height, width):
    """Down to one anchor on all levels, and to one row and one column on the finest."""
    layout = make_anchors(height, width)
    assert_equal_to_plain_atss(layout, random_boxes(20, 300, max(height, width), 0))
    assert_equal_to_plain_atss(layout, random_boxes(20, 30, max(height, width), 1))


def test_boxes_centred_far_outside():
    """Boxes that reach into the image from several thousand pixels away."""
    boxes = random_boxes(40, 40, 160, 0).tensor
    boxes[:20, 2] += 14000
    boxes[10:30, 1] -= 9000
    boxes[30:] += 5000
    labels = assert_equal_to_plain_atss(make_anchors(160, 160), Boxes(boxes))
    assert (labels == 1).any()


@pytest.mark.parametrize("value", (float("nan"), float("inf"), -float("inf"), 3e38))
@pytest.mark.parametrize("side", range(4))
def test_a_box_that_is_not_finite_matches_nothing_and_disturbs_nothing(value, side):
    anchors, grid = make_anchors(96, 128)
    boxes = torch.tensor([[10.0, 10.0, 70.0, 60.0], [40.0, 20.0, 110.0, 90.0]])
    alone = match_both_ways(anchors, grid, Boxes(boxes[1:]))
    boxes[0, side] = value
    matched_idxs, labels = match_both_ways(anchors, grid, Boxes(boxes))
    assert torch.equal(labels, alone[1]) and (labels == 1).any()
    assert (matched_idxs[labels == 1] == 1).all()


@pytest.mark.parametrize("seed", range(4))
def test_batch_padding_is_neither_candidate_nor_background(seed):
    layout = make_anchors(192, 256)
    labels = assert_equal_to_plain_atss(layout, random_boxes(12, 90, 200, seed), valid_hw=(96, 160))
    centers = Boxes.cat(layout[0]).get_centers()
    outside = (centers[:, 0] >= 160) | (centers[:, 1] >= 96)
    assert torch.equal(labels == -1, outside) and (labels == 1).any()


@pytest.mark.parametrize("topk", (1, 2, 9, 30))
def test_any_number_of_candidates(topk):
    assert_equal_to_plain_atss(make_anchors(96, 96), random_boxes(10, 80, 96, 0), topk)


def test_exact_ties_in_distance_take_the_lower_anchor():
    """A box centred between cells, and on a cell's corner, has many equally near anchors."""
    boxes = Boxes(torch.tensor([[36.0, 36.0, 84.0, 84.0], [20.0, 40.0, 60.0, 80.0]]))
    labels = assert_equal_to_plain_atss(make_anchors(128, 128), boxes, topk=2)
    assert (labels == 1).any()


def test_equal_boxes_go_to_the_lower_index():
    box = torch.tensor([[30.0, 30.0, 90.0, 95.0]])
    matched_idxs, labels = match_both_ways(*make_anchors(128, 128), Boxes(box.repeat(3, 1)))
    assert (labels == 1).any() and (matched_idxs[labels == 1] == 0).all()


def test_one_candidate_is_its_own_threshold():
    """A single level with a single anchor: its standard deviation does not exist."""
    layout = make_anchors(128, 128, strides=(128,))
    labels = assert_equal_to_plain_atss(layout, Boxes(torch.tensor([[-50.0, -50.0, 50.0, 50.0]])))
    assert labels.tolist() == [1]


def test_padding_of_a_small_level_is_no_candidate():
    """All anchors have the IoU of the threshold, the first one too, which is far from the box."""
    layout = make_anchors(64, 64, strides=(8, 64), sides=(8, 8))
    labels = assert_equal_to_plain_atss(layout, Boxes(torch.tensor([[-10.0, -10.0, 100.0, 100.0]])))
    assert (labels == 1).sum() == 9 + 1 and labels[0] == 0


def test_one_level():
    assert_equal_to_plain_atss(make_anchors(64, 64, strides=(16,)), random_boxes(6, 50, 64, 1))


def test_no_boxes_is_all_background():
    anchors, grid = make_anchors(64, 64)
    matched_idxs, labels = match_both_ways(anchors, grid, Boxes(torch.zeros(0, 4)))
    assert labels.shape == matched_idxs.shape == (sum(map(len, anchors)),)
    assert (labels == 0).all()


def test_a_box_between_the_cells_stays_unmatched():
    """No anchor centre lies inside a 2 px box around (4, 4)."""
    boxes = Boxes(torch.tensor([[3.0, 3.0, 5.0, 5.0]]))
    assert not (match_both_ways(*make_anchors(64, 64), boxes)[1] == 1).any()


def test_inside_means_by_more_than_a_hundredth_of_a_pixel():
    """The centre (64, 64) lies 0.01 px inside the first box's left side, 0.02 px in the second."""
    layout = make_anchors(128, 128, strides=(64,))
    index = 3  # the cell (1, 1)
    labels = []
    for margin in (0.01, 0.02):
        box = torch.tensor([[64 - margin, 40.0, 400.0, 400.0]], dtype=torch.float64).float()
        labels.append(match_both_ways(*layout, Boxes(box), topk=1)[1][index].item())
    near_side, inside = labels
    assert (near_side, inside) == (0, 1)


# ----------------------------------------------------------------------------------------- batches

BATCH = [random_boxes(count, 90, 200, count) for count in (12, 0, 1, 30, 0)]
VALID_HW = [(96, 160), (192, 256), (192, 256), None, (32, 32)]


@pytest.mark.parametrize("on_grid", (True, False))
def test_a_batch_is_its_images(on_grid):
    anchors, grid = make_anchors(192, 256)
    options = {"grid": grid} if on_grid else {}
    match_batch = on_device(ATSSMatcher(9).match_batch)
    matched_idxs, labels = match_batch(anchors, BATCH, valid_hw=VALID_HW, **options)
    assert matched_idxs.dtype == torch.int64 and labels.dtype == torch.int8
    first = 0
    for gt_boxes, valid_hw, idxs, label in zip(BATCH, VALID_HW, matched_idxs, labels):
        expected_idxs, expected_label = plain_atss(anchors, gt_boxes, valid_hw=valid_hw)
        is_matched = expected_label == 1
        assert torch.equal(label, expected_label) and is_matched.any() == bool(len(gt_boxes))
        assert torch.equal(idxs[is_matched], expected_idxs[is_matched] + first)
        assert (idxs[~is_matched] == sum(map(len, BATCH))).all()
        first += len(gt_boxes)


@pytest.mark.parametrize("on_grid", (True, False))
def test_some_boxes_at_a_time_give_the_same_result(on_grid):
    """Equal boxes and crowded ones among them, so that boxes of different priority compete."""
    anchors, grid = make_anchors(192, 256)
    boxes = random_boxes(20, 60, 60, 0).tensor
    batch = [Boxes(torch.cat((boxes, boxes.flip(0)))), *BATCH]
    examined = 31 * 5 if on_grid else sum(map(len, anchors))
    results = [
        on_device(ATSSMatcher(9, num_pairs=count * examined + 1).match_batch)(
            anchors, batch, grid=grid if on_grid else None, valid_hw=[None, *VALID_HW]
        )
        for count in (0, 1, 7, 1000)
    ]
    for matched_idxs, labels in results[:-1]:
        assert torch.equal(matched_idxs, results[-1][0]) and torch.equal(labels, results[-1][1])
    firsts = results[-1][0][0][results[-1][1][0] == 1]
    assert len(firsts) > 20 and (firsts < 20).all()  # the lower index of each pair of equal boxes


def test_the_matcher_does_not_synchronize():
    anchors, grid = make_anchors(192, 256)
    for options in ({"grid": grid}, {}):
        matcher = ATSSMatcher(9, num_pairs=3000)
        run = lambda: matcher.match_batch(  # noqa: E731
            anchors, BATCH, valid_hw=VALID_HW, **options
        )
        assert host_waits(run) == []
