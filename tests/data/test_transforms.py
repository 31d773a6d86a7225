"""Training augmentations, and resizing by PyTorch beside Detectron2's, which is Pillow's."""

import warnings

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.utils.env import seed_all_rng
from PIL import Image

from clq.config import get_clq_cfg
from clq.data.transforms import (
    ResizeShortestEdge,
    ResizeTransform,
    build_train_augmentations,
    with_fast_resizing,
)
from clq.engine import CLQTrainer, build_config
from reference.tiny import TinyData, command_line, parse

HEIGHT, WIDTH = 40, 60
BOX = (10, 5, 34, 15)  # xyxy in pixels

Size = tuple[int, int]  # height and width


@pytest.fixture
def cfg() -> CfgNode:
    """As in training, without resizing and flipping."""
    cfg = get_clq_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


def augment_image(cfg: CfgNode) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A black image with a white box after augmentation, and where its box should be by now."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    augmented = T.AugInput(image, boxes=np.array([BOX], float))
    T.AugmentationList(build_train_augmentations(cfg))(augmented)
    x0, y0, x1, y1 = (round(float(edge)) for edge in augmented.boxes[0])
    return augmented.image, (x0, y0, x1, y1)


def places(cfg: CfgNode) -> set[tuple[int, ...]]:
    """All places at which the box is seen, each checked to be where the white pixels are."""
    found = set()
    for seed in range(24):
        seed_all_rng(seed)
        image, box = augment_image(cfg)
        rows, columns = (image[:, :, 0] > 127).nonzero()
        white = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert box == white, "the box is not where the object is"
        found.add(box)
    return found


def test_without_keys_the_image_stays(cfg: CfgNode):
    assert places(cfg) == {BOX}


def test_horizontal_flips_are_detectron2s(cfg: CfgNode):
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    assert places(cfg) == {BOX, (26, 5, 50, 15)}


def test_vertical_flips(cfg: CfgNode):
    cfg.INPUT.VERTICAL_FLIP = True
    assert places(cfg) == {BOX, (10, 25, 34, 35)}


def test_quarter_turns(cfg: CfgNode):
    cfg.INPUT.QUARTER_TURNS = True
    assert places(cfg) == {BOX, (5, 26, 15, 50), (26, 25, 50, 35), (25, 10, 35, 34)}


def test_flips_and_turns_make_all_eight_views(cfg: CfgNode):
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    cfg.INPUT.VERTICAL_FLIP = cfg.INPUT.QUARTER_TURNS = True
    assert len(places(cfg)) == 8


def test_crops_come_before_resizing(cfg: CfgNode):
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE = True, "absolute"
    cfg.INPUT.CROP.SIZE = [20, 20]
    assert augment_image(cfg)[0].shape == (40, 40, 3)


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_colour_jitter_changes_colours_alone(cfg: CfgNode, jitter: float):
    cfg.INPUT.COLOR_JITTER = jitter
    image = np.random.default_rng(0).integers(60, 180, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    seed_all_rng(1)
    augmented = T.AugInput(image.copy(), boxes=np.array([BOX], float))
    T.AugmentationList(build_train_augmentations(cfg))(augmented)
    assert augmented.boxes.tolist() == [list(map(float, BOX))]
    assert augmented.image.shape == image.shape and augmented.image.dtype == np.uint8
    assert np.array_equal(augmented.image, image) == (jitter == 0)
    # Brightness, contrast and saturation change by at most 40 % each.
    assert abs(augmented.image.astype(float) - image).max() < 255 * (1.4**3 - 1)


def test_the_training_loader_augments(tiny_data: TinyData, tmp_path):
    keys = {"INPUT.QUARTER_TURNS": True, "INPUT.RANDOM_FLIP": "none", "MODEL.DEVICE": "cpu"}
    cfg = build_config(parse(command_line(tiny_data, tmp_path, keys=keys)))
    seed_all_rng(0)
    batches = iter(CLQTrainer.build_train_loader(cfg))
    shapes = {}
    for _ in range(12):
        for image in next(batches):
            assert image["image"].dtype == torch.uint8
            shapes.setdefault(image["image_id"], set()).add(tuple(image["image"].shape[1:]))
    assert set(shapes) == {10, 17, 24, 31}  # the image without objects among them
    assert shapes[10] == {(64, 96), (96, 64)}


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
