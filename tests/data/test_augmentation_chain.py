"""INPUT.AUGMENTATIONS from the config to batches: order, drawn images, exactness, mistakes."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image
from torchvision import tv_tensors

from clq.config import get_clq_cfg
from clq.data import TrainLoader, augmentations, register_json_datasets, user_augmentation
from clq.data.augmentation_chain import AugmentationChain, UnreadablePartner
from clq.data.augmentations import Context, LabelledImage, as_boxes
from clq.data.mapped_dataset import UNREADABLE, SampleIndex, SeededDataset
from clq.modeling.crowd import CROWD_CLASS
from reference.tiny import Pair, TinyData

OURS = ("scale_jitter", "photometric_distortion", "mosaic")


def config(pair: Pair, names: tuple[str, ...] = OURS, **keys: Any) -> CfgNode:
    cfg = get_clq_cfg()
    cfg.INPUT.AUGMENTATIONS, cfg.INPUT.MIN_SIZE_TRAIN, cfg.SEED = names, (64,), 4
    cfg.DATASETS.TRAIN_JSON = tuple(map(str, pair))
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 2, 0
    cfg.merge_from_list([part for item in keys.items() for part in item])
    register_json_datasets(cfg)
    return cfg


def take(cfg: CfgNode, count: int, start: int = 0) -> list[dict[str, Any]]:
    loader = TrainLoader.from_config(cfg)
    loader.start = start
    batches = iter(loader)
    samples = [sample for batch in itertools.islice(batches, count) for sample in batch]
    batches.close()
    return samples


def check_equal(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one["file_name"] == other["file_name"]
        assert torch.equal(one["image"], other["image"])
        gt, expected_gt = one["instances"], other["instances"]
        assert torch.equal(gt.gt_boxes.tensor, expected_gt.gt_boxes.tensor)
        assert torch.equal(gt.gt_classes, expected_gt.gt_classes)


def test_workers_and_a_resume_change_no_sample(tiny_data: TinyData):
    cfg = config(tiny_data.train)
    expected = take(cfg, 10)
    check_equal(take(cfg, 4, start=6), expected[12:])
    check_equal(take(config(tiny_data.train, **{"DATALOADER.NUM_WORKERS": 2}), 10), expected)
    plain = take(config(tiny_data.train, ()), 10)
    assert [s["file_name"] for s in plain] == [s["file_name"] for s in expected]
    assert not any(torch.equal(a["image"], b["image"]) for a, b in zip(plain, expected))
    again = [s["image"] for s in expected if s["file_name"] == expected[0]["file_name"]]
    assert len(again) > 2 and not torch.equal(again[0], again[1])


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_the_channels_are_those_of_the_config(channels: str, tiny_data: TinyData):
    """Without anything at random, the image is the same as without the augmentation."""
    keys = {"INPUT.FORMAT": channels}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentations, "_SCALES", (1.0, 1.0))
        check_equal(
            take(config(tiny_data.train, ("scale_jitter",), **keys), 6),
            take(config(tiny_data.train, (), **keys), 6),
        )


def test_images_of_16_bits_are_read_as_those_of_8(tmp_path: Path):
    pair = write_boxes(tmp_path, 1)
    expected = take(config(pair), 4)
    for path in tmp_path.glob("*.png"):
        deep = np.asarray(Image.open(path))[:, :, 0].astype(np.uint16) * 257
        Image.fromarray(deep).save(path)
    check_equal(take(config(pair, **{"INPUT.BIT_DEPTH": 16}), 4), expected)


def sample(value: int) -> LabelledImage:
    image = torch.full((3, 4, 4), value, dtype=torch.uint8)
    boxes = as_boxes(torch.zeros(0, 4), (4, 4))
    return LabelledImage(tv_tensors.Image(image), boxes, torch.zeros(0, dtype=torch.int64))


def test_a_drawn_image_has_gone_through_the_augmentations_before():
    drawn = []

    def double(one: LabelledImage, context: Context) -> LabelledImage:
        return one._replace(image=tv_tensors.Image(one.image * 2))

    def add_another(one: LabelledImage, context: Context) -> LabelledImage:
        other = context.draw()
        drawn.append(int(other.image[0, 0, 0]))
        return one._replace(image=tv_tensors.Image(one.image + other.image))

    def increase(one: LabelledImage, context: Context) -> LabelledImage:
        return one._replace(image=tv_tensors.Image(one.image + 1))

    records = [{"file_name": f"{i}.png", "value": i} for i in (3, 5, 7)]
    chain = AugmentationChain([double, add_another, increase], fill=(0, 0, 0), records=records)
    for _ in range(20):
        result = chain({"file_name": "10.png", "value": 10}, lambda r: sample(r["value"]))
        assert (result.image == 20 + drawn[-1] + 1).all()
    assert set(drawn) == {6, 10, 14}


def test_padding_has_the_mean_color():
    cfg = get_clq_cfg()
    assert AugmentationChain.from_config(cfg) is None
    cfg.INPUT.AUGMENTATIONS = ("mosaic",)
    cfg.MODEL.PIXEL_MEAN = [103.53, 116.28, 123.675]
    for channels, expected in (("BGR", (124, 116, 104)), ("RGB", (104, 116, 124))):
        cfg.INPUT.FORMAT = channels
        chain = AugmentationChain.from_config(cfg)
        assert chain is not None and chain._fill == expected


def write_boxes(folder: Path, painted: int | None) -> Pair:
    """Black images, each with one object of a class of its own; one object is white."""
    pair = Pair(folder / "boxes.json", folder)
    sizes, box = [(70, 90), (90, 60), (64, 64), (80, 130)], [20, 15, 24, 30]
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": i, "name": f"class {i}"} for i in range(4)]
    for i, (height, width) in enumerate(sizes):
        pixels = np.zeros((height, width, 3), np.uint8)
        if i == painted:
            pixels[15:45, 20:44] = 255
        Image.fromarray(pixels).save(folder / f"{i}.png")
        content["images"].append(
            {"id": i, "file_name": f"{i}.png", "height": height, "width": width}
        )
        content["annotations"].append(
            {"id": i + 1, "image_id": i, "category_id": i, "bbox": box, "area": 720, "iscrowd": 0}
        )
    pair.json_file.write_text(json.dumps(content))
    return pair


def test_boxes_of_a_batch_are_those_of_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After all augmentations, resizing and flipping; of an image drawn twice, both boxes."""
    monkeypatch.setattr(augmentations, "_MIN_VISIBLE", 0.0)
    keys = {"MODEL.PIXEL_MEAN": [0.0] * 3}
    compared = 0
    for kind in range(4):
        cfg = config(write_boxes(tmp_path, kind), ("scale_jitter", "mosaic"), **keys)
        for one in take(cfg, 12):
            gt = one["instances"]
            boxes = gt.gt_boxes.tensor[gt.gt_classes == kind]
            rows, columns = (one["image"][0].numpy() > 127).nonzero()
            if len(boxes) and len(rows):
                found = [*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist()]
                white = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(found, white, atol=2)
                compared += 1
            else:  # a sliver at the border is left, if anything
                assert len(rows) < 100
    assert compared > 40


def test_crowds_are_kept_where_they_are_asked_for(tmp_path: Path):
    pair = write_boxes(tmp_path, None)
    content = pair.content
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    pair.json_file.write_text(json.dumps(content))
    for ignored in (True, False):
        cfg = config(pair, ("mosaic",), **{"MODEL.CLQ.IGNORE_CROWD": ignored})
        classes = torch.cat([s["instances"].gt_classes for s in take(cfg, 4)])
        assert set(classes.tolist()) == ({CROWD_CLASS} if ignored else set())


def test_a_drawn_image_that_cannot_be_read_is_named_or_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(augmentations, "_MOSAIC_PROBABILITY", 1.0)
    pair = write_boxes(tmp_path, None)
    strict, skipping = (
        TrainLoader.from_config(config(pair, ("mosaic",), **{"DATALOADER.SKIP_UNREADABLE": skip}))
        for skip in (False, True)
    )
    datasets = [
        SeededDataset(loader._records, loader._mapper, 4, loader._skip_unreadable)
        for loader in (strict, skipping)
    ]
    (tmp_path / "2.png").write_bytes(b"no image")
    Image.new("RGB", (64, 65)).save(tmp_path / "3.png")
    found = set()
    for position in range(12):  # all of the first image, which can be read
        strict_sample, sample = (dataset[SampleIndex(position, 0)] for dataset in datasets)
        assert "image" in sample and UNREADABLE not in sample
        assert Path(sample["file_name"]).name == "0.png"
        found |= set(strict_sample.get(UNREADABLE, []))
        assert ("image" in strict_sample) == (UNREADABLE not in strict_sample)
    assert found == {
        f"{tmp_path}/2.png (it is no image)",
        f"{tmp_path}/3.png (it has 64 x 65 pixels, but the annotations say 130 x 80)",
    }
    substituted = datasets[1][SampleIndex(0, 2)]  # whose own turn it is
    assert "image" in substituted and "2.png (it is no image)" in substituted[UNREADABLE][0]


def test_where_no_image_can_be_drawn_one_of_them_is_named():
    def read(record: dict[str, Any]) -> LabelledImage:
        raise OSError("it is gone")

    for skip in (False, True):
        chain = AugmentationChain([], fill=(0, 0, 0), skip_unreadable=skip)
        chain.records = [{"file_name": "gone.png"}]
        with pytest.raises(UnreadablePartner, match="gone.png"):
            chain._draw(read, 0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("skip", [False, True])
def test_a_users_function_that_fails_ends_the_run_in_a_sentence(
    num_workers: int, skip: bool, tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(user_augmentation._imported, "mine:f", lambda image, boxes, classes: image)
    keys = {"DATALOADER.NUM_WORKERS": num_workers, "DATALOADER.SKIP_UNREADABLE": skip}
    with pytest.raises(ValueError) as error:
        take(config(tiny_data.train, ("mine:f",), **keys), 1)
    assert str(error.value).startswith("mine:f of INPUT.AUGMENTATIONS must return (image, boxes, ")
    assert "\n" not in str(error.value)
