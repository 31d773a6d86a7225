"""Thin images are resized to sides of at least one pixel."""

import numpy as np
import pytest

from clq.data.transforms import ResizeShortestEdge


@pytest.mark.parametrize(
    "size, expected",
    [
        ((1, 4000), (1, 1333)),
        ((4000, 1), (1333, 1)),
        ((1, 30000), (1, 1333)),
        ((1, 1), (64, 64)),
    ],
)
def test_resized_sides_are_at_least_one_pixel(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = np.full((*size, 3), 7, dtype=np.uint8)
    resize = ResizeShortestEdge([64, 64], 1333).get_transform(image)
    resized = resize.apply_image(image)
    assert resized.shape == (*expected, 3)
    assert (resized == 7).all()
