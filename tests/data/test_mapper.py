"""Crowds reach the ground truth where they are asked for, moved as the image is."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import (
    DatasetMapper,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from detectron2.utils.env import seed_all_rng
from PIL import Image

from clq.config import get_clq_cfg
from clq.data import TestLoader, register_json_datasets
from clq.data.mapper import CLQMapper
from clq.modeling.crowd import CROWD_CLASS
from reference.tiny import CATEGORIES, Pair

OBJECT, CROWD = [4, 6, 20, 10], [30, 40, 24, 16]  # x, y, width, height in an image of 64 x 96
SIZE = (96, 64)  # height and width


def annotation(id_: int, image_id: int, box: list[int], iscrowd: int) -> dict[str, Any]:
    crowd = {"counts": [0, 6144], "size": list(SIZE)}
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": 17,  # the class index 1
        "bbox": box,
        "area": w * h,
        "iscrowd": iscrowd,
        "segmentation": crowd if iscrowd else polygon,
    }


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """An image with an object and a crowd, one with a crowd alone, and one with neither."""
    files = Pair(tmp_path / "data.json", tmp_path / "images")
    files.images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    images = []
    for i in (1, 2, 3):
        Image.fromarray(pixels).save(files.images / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]})
    annotations = [
        annotation(1, 1, OBJECT, 0),
        annotation(2, 1, CROWD, 1),
        annotation(3, 2, CROWD, 1),
    ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    files.json_file.write_text(json.dumps(content))
    return files


def config(pair: Pair, ignore_crowd: bool):
    cfg = get_clq_cfg()
    cfg.MODEL.META_ARCHITECTURE = "CLQ"
    cfg.MODEL.CLQ.IGNORE_CROWD = ignore_crowd
    cfg.DATASETS.TRAIN_JSON = tuple(map(str, pair))
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS, cfg.SEED = 3, 0, 1
    register_json_datasets(cfg)
    return cfg


def record(pair: Pair, ignore_crowd: bool = True) -> tuple[Any, dict[str, Any]]:
    """The configuration, and the record of the image with an object and a crowd."""
    cfg = config(pair, ignore_crowd)
    return cfg, get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)[0]


@pytest.mark.parametrize(
    ("augmentations", "expected"),
    [
        ([], [[4, 6, 24, 16], [30, 40, 54, 56]]),
        ([T.HFlipTransform(64)], [[40, 6, 60, 16], [10, 40, 34, 56]]),
        ([T.VFlipTransform(96)], [[4, 80, 24, 90], [30, 40, 54, 56]]),
        ([T.ResizeTransform(96, 64, 48, 32, 2)], [[2, 3, 12, 8], [15, 20, 27, 28]]),
        ([T.CropTransform(10, 0, 30, 96)], [[0, 6, 14, 16], [20, 40, 30, 56]]),
    ],
)
def test_crowds_move_with_the_image(pair: Pair, augmentations: list, expected: list):
    cfg, one = record(pair)
    before = copy.deepcopy(one)
    mapped = CLQMapper(cfg, True, augmentations=augmentations)(one)
    gt = mapped["instances"]
    assert gt.gt_boxes.tensor.tolist() == expected
    assert gt.gt_classes.dtype == torch.int64 and gt.gt_classes.tolist() == [1, CROWD_CLASS]
    assert one == before


def test_a_crowd_that_is_cropped_away_is_gone(pair: Pair):
    cfg, one = record(pair)
    gt = CLQMapper(cfg, True, augmentations=[T.CropTransform(0, 0, 28, 96)])(one)["instances"]
    assert gt.gt_classes.tolist() == [1]


@pytest.mark.parametrize(("is_train", "ignore_crowd"), [(True, False), (False, True)])
def test_else_it_is_the_mapper_of_detectron2(pair: Pair, is_train: bool, ignore_crowd: bool):
    cfg, one = record(pair, ignore_crowd)
    ours, theirs = (
        mapper(cfg, is_train, augmentations=[T.HFlipTransform(64)])(one)
        for mapper in (CLQMapper, DatasetMapper)
    )
    assert ours.keys() == theirs.keys() and ("instances" in ours) == is_train
    assert torch.equal(ours["image"], theirs["image"])
    if is_train:
        gt, expected = ours["instances"], theirs["instances"]
        assert torch.equal(gt.gt_boxes.tensor, expected.gt_boxes.tensor)
        assert torch.equal(gt.gt_classes, expected.gt_classes) and len(gt) == 1


def test_annotations_are_not_looked_at_for_inference(pair: Pair):
    cfg, one = record(pair)
    one = {**one, "annotations": [{"category_id": 0, "segmentation": []}]}
    assert "instances" not in CLQMapper(cfg, is_train=False)(one)


def test_its_augmentations_are_those_of_the_configuration_by_default(pair: Pair):
    cfg, _ = record(pair)
    ours, theirs = (repr(m(cfg, is_train=True).augmentations) for m in (CLQMapper, DatasetMapper))
    assert ours == theirs


def test_the_loader_keeps_images_with_crowds_alone(pair: Pair):
    cfg = config(pair, ignore_crowd=True)
    mapper = CLQMapper(cfg, is_train=True, augmentations=[])
    batch = next(iter(build_detection_train_loader(cfg, mapper=mapper)))
    classes = {one["image_id"]: one["instances"].gt_classes.tolist() for one in batch}
    assert classes == {1: [1, CROWD_CLASS], 2: [CROWD_CLASS], 3: []}


@pytest.mark.parametrize("kind", [int, float])
def test_boxes_of_whole_numbers_are_resized_as_others(kind: type, pair: Pair):
    """61 at half size is 30.5; Detectron2 alone would make it 30."""
    record = {
        "file_name": str(pair.images / "1.png"),
        "height": SIZE[0],
        "width": SIZE[1],
        "annotations": [
            {
                "bbox": [kind(side) for side in (61, 1, 3, 12)],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0,
            }
        ],
    }
    half = T.Resize((SIZE[0] // 2, SIZE[1] // 2))
    mapper = CLQMapper(is_train=True, augmentations=[half], image_format="BGR")
    boxes = mapper(record)["instances"].gt_boxes.tensor
    assert boxes.tolist() == [[30.5, 0.5, 32.0, 6.5]]
    assert record["annotations"][0]["bbox"] == [61, 1, 3, 12], "the record is left alone"


# Pillow's mode, the file's suffix, and its orientation as of EXIF.
FILES = [("RGB", "jpg", o) for o in range(1, 9)]
FILES += [("L", "jpg", 6), ("CMYK", "jpg", 1), ("P", "png", 1), ("L", "png", 1), ("RGBA", "png", 1)]
FILES += [("1", "png", 1), ("LA", "png", 1), ("P", "gif", 1)]


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize(("mode", "suffix", "orientation"), FILES)
def test_files_are_read_as_by_detectron2(
    mode: str, suffix: str, orientation: int, image_format: str, tmp_path: Path
):
    path = tmp_path / f"a.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode != "RGB":
        image = image.convert(mode)
    assert image.mode == mode
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    height, width = SIZE[::-1] if orientation > 4 else SIZE
    box = {"bbox": [3, 5, 20, 30.5], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record = {"file_name": str(path), "height": height, "width": width, "annotations": [box]}
    augmentations = [T.ResizeShortestEdge((50, 120), 150, "choice"), T.RandomFlip()]
    for seed in range(4):
        mapped = []
        for mapper in (CLQMapper, DatasetMapper):
            seed_all_rng(seed)
            mapped.append(mapper(True, augmentations=augmentations, image_format=image_format))
            mapped[-1] = mapped[-1](copy.deepcopy(record))
        ours, theirs = mapped
        assert ours["image"].dtype == torch.uint8 and ours["image"].is_contiguous()
        difference = ours["image"].int() - theirs["image"].int()
        assert difference.abs().max() <= 1 and (difference != 0).float().mean() < 0.1
        boxes, expected = (one["instances"].gt_boxes.tensor for one in mapped)
        torch.testing.assert_close(boxes, expected, rtol=0, atol=0)


def test_training_and_evaluation_see_the_same_pixels(pair: Pair):
    cfg = config(pair, ignore_crowd=True)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (50,), 50
    cfg.INPUT.RANDOM_FLIP = "none"
    one = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)[0]
    trained = CLQMapper(cfg, is_train=True)(one)["image"]
    (evaluated,), *_ = TestLoader.from_config(cfg, cfg.DATASETS.TRAIN)
    assert trained.shape == (3, 75, 50) and "instances" not in evaluated
    assert torch.equal(evaluated["image"], trained)
    assert not torch.equal(DatasetMapper(cfg, is_train=True)(one)["image"], trained)
