"""The search on a grid against the search of all: the same anchors, however rounding falls."""

import functools

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st

from clq.modeling.nearest_anchors import (
    AnchorGrid,
    BruteForceNearest,
    GridNearest,
    unpack_candidates,
)

INFINITY = float("inf")


def searches(strides, sizes, *, offset=0.0, scale=8, topk=9, limits=((INFINITY, INFINITY),)):
    """Both searches; ``limits`` are x and y of each image."""
    maps = [torch.empty(0, *size) for size in sizes]
    generator = DefaultAnchorGenerator(
        sizes=[[scale * s] for s in strides], aspect_ratios=[1.0], strides=strides, offset=offset
    )
    levels = [boxes.get_centers().t() for boxes in generator(maps)]
    ends = torch.tensor(limits).t()
    grid = GridNearest(levels, topk, AnchorGrid.of(strides, maps))
    return [functools.partial(s, limits=ends) for s in (BruteForceNearest(levels, topk), grid)]


def assert_equal(both, points, images=None):
    """Returns which entries are candidates, and their anchors, (M, L*k)."""
    points = torch.as_tensor(points, dtype=torch.float32)
    images = torch.zeros(len(points)).long() if images is None else torch.tensor(images)
    of_all, on_grid = (search(points.t(), images) for search in both)
    assert of_all.dtype == on_grid.dtype == torch.int64
    (is_candidate, anchors), (is_found, found) = unpack_candidates(of_all), unpack_candidates(
        on_grid
    )
    assert torch.equal(is_candidate, is_found) and torch.equal(anchors, found)
    assert torch.equal(of_all[is_candidate], on_grid[is_candidate])
    return is_candidate, anchors


def near(value: float, ulps: int) -> float:
    """The fp32 number that is so many steps from the one nearest to a value."""
    number = torch.tensor(value)
    for _ in range(abs(ulps)):
        number = number.nextafter(torch.tensor(INFINITY if ulps > 0 else -INFINITY))
    return number.item()


def test_nearest_first_and_lower_index_at_ties():
    """Around the cell (2, 2) of 5 x 5: itself, 4 neighbours, 4 diagonal ones."""
    is_candidate, anchors = assert_equal(searches((8,), ((5, 5),)), [[16.0, 16.0]])
    assert is_candidate.all() and anchors.tolist() == [[12, 7, 11, 13, 17, 6, 8, 16, 18]]


def test_a_column_beside_a_far_box():
    is_candidate, anchors = assert_equal(searches((8,), ((12, 9),), topk=4), [[900.0, 33.0]])
    assert is_candidate.all() and anchors.tolist() == [[4 * 9 + 8, 5 * 9 + 8, 3 * 9 + 8, 6 * 9 + 8]]


def test_levels_with_fewer_anchors_than_wanted():
    both = searches((8, 64, 128), ((3, 4), (1, 2), (1, 1)))
    is_candidate, anchors = assert_equal(both, [[9.0, 9.0], [1e3, -50.0]])
    assert is_candidate.view(2, 3, 9).sum(dim=2).tolist() == [[9, 2, 1], [9, 2, 1]]
    assert (anchors[~is_candidate] == 0).all()


def test_each_image_has_its_own_end():
    limits = ((64.0, 16.0), (INFINITY, INFINITY), (8.0, 500.0), (0.0, 0.0))
    both = searches((8, 16), ((10, 12), (5, 6)), limits=limits)
    is_candidate, anchors = assert_equal(both, [[60.0, 60.0]] * 4, [0, 1, 2, 3])
    assert is_candidate.sum(dim=1).tolist() == [9 + 4, 18, 9 + 5, 0]
    assert (anchors[0, :9] % 12 < 8).all() and (anchors[0, :9] < 24).all()


def test_no_anchor_is_near_an_infinitely_far_box():
    is_candidate, _ = assert_equal(searches((8,), ((5, 5),)), [[1e30, 5.0], [5.0, -INFINITY]])
    assert not is_candidate.any()


def test_no_box():
    is_candidate, _ = assert_equal(searches((8, 16), ((5, 5), (3, 3))), torch.zeros(0, 2))
    assert is_candidate.shape == (0, 18)


# Found by trial: the k nearest of each have a cell of ranks a * b = k + 1, k + 2 or k + 3.
ROUNDED = {
    "row ranks swapped": ((33,), ((7, 2),), 1 / 3, 1, (27.500001907348633, 1116.5)),
    "rows tie in the sum": ((8,), ((2, 40),), 0.9, 9, (75.20000457763672, 11.20000171661377)),
    "rows and columns": ((4,), ((14, 5),), 0.9, 1, (17.600000381469727, 53.60000228881836)),
    "in the corner": ((7,), ((40, 9),), 1 / 3, 9, (37.333335876464844, 61.83333206176758)),
}


@pytest.mark.parametrize("case", ROUNDED)
def test_rounding_asks_for_more_cells_than_exact_arithmetic(case):
    strides, sizes, offset, topk, point = ROUNDED[case]
    assert_equal(searches(strides, sizes, offset=offset, topk=topk), [point])


@pytest.mark.parametrize("topk", (1, 2, 9, 30))
@pytest.mark.parametrize("offset", (0.0, 0.5, 0.3))
@pytest.mark.parametrize("strides", ((8, 16, 32), (7, 11, 100)))
def test_points_at_random_and_far_outside(topk, offset, strides):
    generator = torch.Generator().manual_seed(topk)
    points = torch.rand(300, 2, generator=generator) * 300 - 40
    points[100:200] *= 4
    points[200:, 0] *= 27  # up to a thousand strides outside
    sizes = [(-(-150 // s), -(-220 // s)) for s in strides]
    both = searches(strides, sizes, offset=offset, topk=topk, limits=((220.0, 150.0), (90.5, 64.0)))
    assert_equal(both, points, [0, 1] * 150)


@st.composite
def layouts(draw):
    """A layout, and points a few rounding steps around its centres and the middles of them."""
    strides = draw(st.lists(st.sampled_from((1, 3, 7, 8, 13, 32, 100)), min_size=1, max_size=3))
    sides = st.sampled_from((1, 2, 3, 4, 5, 7, 10, 12, 20))
    offset = draw(st.sampled_from((0.0, 0.5, 0.25, 1 / 3, 0.9)))

    def coordinate():
        place = draw(st.integers(-3, 23)) + draw(st.sampled_from((0.0, 0.5, 0.25))) + offset
        return near(place * draw(st.sampled_from(strides)), draw(st.integers(-3, 3)))

    ends = st.one_of(st.just(INFINITY), st.integers(1, 300).map(float))
    return {
        "strides": strides,
        "sizes": [(draw(sides), draw(sides)) for _ in strides],
        "offset": offset,
        "scale": draw(st.sampled_from((8, 1, 5.3))),
        "topk": draw(st.sampled_from((1, 2, 3, 9, 30))),
        "limits": ((draw(ends), draw(ends)),),
    }, [[coordinate(), coordinate()] for _ in range(20)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(layouts())
def test_any_layout(layout):
    options, points = layout
    assert_equal(searches(**options), points)


def test_a_grid_of_other_anchors_raises():
    levels = [Boxes(torch.zeros(6, 4)).get_centers().t()]
    with pytest.raises(AssertionError):
        GridNearest(levels, 9, AnchorGrid((8,), ((2, 4),)))
