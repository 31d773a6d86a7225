"""Resizing by PyTorch beside Detectron2's, which is Pillow's."""

import warnings

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.utils.env import seed_all_rng
from PIL import Image

from clq.data.transforms import ResizeShortestEdge, ResizeTransform, with_fast_resizing

Size = tuple[int, int]  # height and width


def photograph(size: Size, channels: int = 3) -> np.ndarray:
    """Smooth noise, which can't be written to, as Pillow gives images."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 1).reshape(*size, channels)
    image.flags.writeable = False
    return image


def both(image: np.ndarray, new: Size) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = (
        kind(*image.shape[:2], *new).apply_image(image)
        for kind in (ResizeTransform, T.ResizeTransform)
    )
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return ours, theirs


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        ((480, 640), (800, 1067), 0.001),
        ((640, 427), (1199, 800), 0.001),
        ((612, 612), (480, 480), 0.03),
        ((900, 1300), (300, 433), 0.03),
        ((7, 300), (19, 814), 0.01),
        ((40, 60), (40, 60), 0),
        ((1, 1), (5, 3), 0),
        ((5, 3), (1, 1), 1),
    ],
)
def test_pixels_are_those_of_pillow_but_for_rounding(
    old: Size, new: Size, most: float, channels: int
):
    ours, theirs = both(photograph(old, channels), new)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= most


def test_images_may_be_flipped_and_are_left_alone():
    image = photograph((30, 50))
    before = image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upright = ResizeTransform(30, 50, 48, 80).apply_image(image)
        reordered = ResizeTransform(30, 50, 48, 80).apply_image(image[:, :, ::-1])
    np.testing.assert_array_equal(reordered, upright[:, :, ::-1])
    np.testing.assert_array_equal(image, before)
    same = ResizeTransform(30, 50, 30, 50).apply_image(image)
    assert not np.shares_memory(same, image)


def test_planes_lie_as_the_network_takes_them():
    resized, _ = both(photograph((30, 50)), (48, 80))
    assert resized.transpose(2, 0, 1).flags.c_contiguous


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).random((12, 20, 3), np.float32),
        np.random.default_rng(0).random((12, 20)),
        np.random.default_rng(0).integers(0, 256, (12, 20), dtype=np.uint8),
        np.random.default_rng(0).integers(0, 256, (12, 20, 4), dtype=np.uint8),
    ],
)
def test_other_images_are_resized_by_detectron2(image: np.ndarray):
    np.testing.assert_array_equal(*both(image, (30, 31)))


@pytest.mark.parametrize("interp", [Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
def test_other_filters_are_detectron2s(interp: Image.Resampling):
    image = photograph((12, 20))
    for given, called in (((interp,), ()), ((), (interp,))):
        ours, theirs = (
            kind(12, 20, 30, 31, *given).apply_image(image, *called)
            for kind in (ResizeTransform, T.ResizeTransform)
        )
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (
        kind(12, 20, 30, 31).apply_segmentation(image)
        for kind in (ResizeTransform, T.ResizeTransform)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_an_image_of_another_size_is_a_mistake():
    with pytest.raises(AssertionError):
        ResizeTransform(12, 21, 30, 31).apply_image(photograph((12, 20)))


@pytest.mark.parametrize(
    "arguments",
    [((40, 60, 80), 100, "choice"), ((40, 90), 100, "range"), ((0,), 100, "choice"), (50,)],
)
def test_sizes_and_boxes_are_detectron2s(arguments: tuple):
    image = photograph((30, 50))
    boxes = np.array([[1, 2, 3.5, 7], [0, 0, 50, 30]])
    theirs = T.ResizeShortestEdge(*arguments)
    (ours,) = with_fast_resizing([theirs])
    assert type(ours) is ResizeShortestEdge
    for seed in range(8):
        transforms = []
        for augmentation in (ours, theirs):
            seed_all_rng(seed)
            transforms.append((augmentation.get_transform(image), np.random.rand()))
        (mine, after), (expected, expected_after) = transforms
        assert after == expected_after, "as many numbers are drawn"
        assert mine.apply_image(image).shape == expected.apply_image(image).shape
        moved, reference = mine.apply_box(boxes.copy()), expected.apply_box(boxes.copy())
        np.testing.assert_array_equal(moved, reference)
        assert isinstance(mine, ResizeTransform) == (arguments[0] != (0,))


def test_a_filter_that_is_asked_for_stays():
    (ours,) = with_fast_resizing([T.ResizeShortestEdge(20, interp=Image.Resampling.NEAREST)])
    assert ours.get_transform(photograph((30, 50))).interp == Image.Resampling.NEAREST


def test_all_other_augmentations_stay():
    class Own(T.ResizeShortestEdge):
        pass

    others = [T.RandomFlip(), Own(20), T.ResizeTransform(3, 4, 5, 6), T.Resize((3, 4))]
    assert with_fast_resizing(others) == others
