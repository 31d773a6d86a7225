"""Training augmentations: which there are, and that boxes stay on their objects."""

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.utils.env import seed_all_rng

from clq.config import get_clq_cfg
from clq.data import build_train_augmentations
from clq.engine import CLQTrainer, build_config
from reference.tiny import TinyData, command_line, parse

HEIGHT, WIDTH = 40, 60
BOX = (10, 5, 34, 15)  # xyxy in pixels


@pytest.fixture
def cfg() -> CfgNode:
    """As in training, without resizing and flipping."""
    cfg = get_clq_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


def seen_in_training(cfg: CfgNode) -> tuple[np.ndarray, tuple[int, int, int, int]]:
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
        image, box = seen_in_training(cfg)
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
    assert seen_in_training(cfg)[0].shape == (40, 40, 3)


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
