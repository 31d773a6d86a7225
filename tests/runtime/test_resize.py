"""Resizing in NumPy against PyTorch's and the shapes of Detectron2."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from clq.data import transforms
from clq.runtime.resize import resize, resized_shape


@pytest.mark.parametrize("seed", range(40))
def test_pixels_are_pytorchs_to_the_last_bit(seed: int):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 300, 2).tolist()
    shapes = [rng.integers(1, 400, 2).tolist(), (height, 57), (max(height // 9, 1), width)]
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for shape in shapes:
        for view in (image, image[:, :, ::-1], image[::-1]):
            expected = transforms.resize(view, *shape)
            np.testing.assert_array_equal(resize(view, *shape), expected)


def test_a_large_image_is_resized_in_blocks():
    image = np.random.default_rng(0).integers(0, 256, (1500, 1100, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, 800, 587), transforms.resize(image, 800, 587))


def test_an_image_of_that_size_is_itself():
    image = np.zeros((4, 5, 3), np.uint8)
    assert resize(image, 4, 5) is image


@pytest.mark.parametrize("sizes", [(320, 533), (800, 1333), (7, 9)])
def test_shapes_are_detectron2s(sizes: tuple[int, int]):
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 3000, (300, 2)).tolist():
        shape = T.ResizeShortestEdge.get_output_shape(height, width, *sizes)
        assert resized_shape((height, width), *sizes) == tuple(max(side, 1) for side in shape)
    assert resized_shape((33, 44), 0, 9) == (33, 44)
