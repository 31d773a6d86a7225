"""Predictor: the detections of an evaluation, from a checkpoint alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Instances

from clq.checkpoint import load_detector, write_detector
from clq.config.serialize import dump_config
from clq.data import CLQMapper
from clq.modeling import fast_inference_model
from clq.prediction import Predictor, ViewOptions
from clq.prediction.predictor import usable_device
from reference.mmdet_style import random_detector, small_config
from reference.prediction import CLASS_NAMES, SIZES, pixels, write_checkpoint, write_image


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_it_finds_what_evaluation_finds(image_format: str, suffix: str, tmp_path: Path):
    weights = write_checkpoint(tmp_path / f"model{suffix}", image_format)
    predictor = Predictor.from_checkpoint(weights)
    found = predictor.detect(pixels()[:, :, ::-1])

    cfg = small_config({**SIZES, "INPUT.FORMAT": image_format})
    path = str(write_image(tmp_path / "a.png"))
    record = CLQMapper(cfg, is_train=False)({"file_name": path, "height": 60, "width": 90})
    assert record["image"].shape == (3, 80, 120)
    model, _ = load_detector(weights)
    with torch.no_grad():
        expected = model([record])[0]["instances"]
    assert len(found) == len(expected) > 0 and found.image_size == (60, 90)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    assert predictor.class_names == CLASS_NAMES


def test_the_order_of_channels_matters(tmp_path: Path):
    found = [
        Predictor.from_checkpoint(write_checkpoint(tmp_path / "model.pth", order)).detect(pixels())
        for order in ("BGR", "RGB")
    ]
    assert len(found[0]) != len(found[1]) or not torch.equal(found[0].scores, found[1].scores)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_batch_finds_what_images_find_one_by_one(
    batch_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "model.pth"))
    # Five are padded to one size, though they are resized to three sizes.
    sizes = [(60, 90), (90, 60), (60, 89), (60, 60), (60, 90), (61, 90), (60, 90)]
    images = [pixels(*size, seed=i)[:, :, ::-1] for i, size in enumerate(sizes)]
    expected = [predictor.detect(image) for image in images]
    shapes: list[list[tuple[int, ...]]] = []
    forward = predictor.model.forward
    monkeypatch.setattr(
        predictor.model,
        "forward",
        lambda inputs: shapes.append([tuple(i["image"].shape[1:]) for i in inputs])
        or forward(inputs),
    )
    found = predictor.detect_batch(images, batch_size)
    assert max(map(len, shapes)) == min(batch_size, 5), "images of one padded size go together"
    for one, other in zip(found, expected, strict=True):
        assert one.image_size == other.image_size and len(one) == len(other) > 0
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            one.pred_boxes.tensor, other.pred_boxes.tensor, rtol=1e-4, atol=1e-3
        )
        assert torch.equal(one.pred_classes, other.pred_classes)


def test_an_empty_batch(tmp_path: Path):
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "model.pth"))
    assert predictor.detect_batch([]) == []


def test_an_image_of_its_own_size_is_not_resized(tmp_path: Path):
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "model.pth"))
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = 0
    unresized = Predictor(predictor.model, cfg, predictor.class_names)
    image = pixels(80, 120)
    assert torch.equal(unresized.detect(image).scores, predictor.detect(image).scores)
    assert len(unresized.detect(image)) > 0


def test_images_are_not_changed(tmp_path: Path):
    image = pixels()
    Predictor.from_checkpoint(write_checkpoint(tmp_path / "model.pth", "RGB")).detect(image)
    np.testing.assert_array_equal(image, pixels())


def test_classes_without_names_get_numbers(tmp_path: Path):
    cfg = small_config()
    write_detector(tmp_path / "a.pth", random_detector(cfg).state_dict(), dump_config(cfg), [])
    predictor = Predictor.from_checkpoint(tmp_path / "a.pth")
    assert predictor.class_names == [f"class_{k}" for k in range(5)]


def test_a_file_without_configuration_is_refused(tmp_path: Path):
    torch.save({"model": random_detector(small_config()).state_dict()}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="bare.pth has no configuration of a detector inside"):
        Predictor.from_checkpoint(tmp_path / "bare.pth")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_can_not_be_used_is_named(name: str):
    with pytest.raises(
        ValueError, match=rf"^--device is '{name}', which can't be used here \(.+\)"
    ):
        usable_device(name)


def test_the_device_is_that_of_the_machine_by_default(monkeypatch: pytest.MonkeyPatch):
    assert usable_device("cpu") == "cpu"
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert usable_device(None) == expected


def test_fast_prediction_is_that_of_the_fast_detector(tmp_path: Path):
    weights = write_checkpoint(tmp_path / "model.safetensors")
    fast, slow = (Predictor.from_checkpoint(weights, fast=fast) for fast in (True, False))
    expected = Predictor(fast_inference_model(slow.model), slow.cfg, slow.class_names)
    found = fast.detect(pixels())
    assert len(found) > 0 and torch.equal(found.scores, expected.detect(pixels()).scores)
    norms = [isinstance(module, FrozenBatchNorm2d) for module in fast.model.modules()]
    assert not any(norms)


@pytest.mark.parametrize("with_views", [False, True])
def test_tiles_of_an_image_are_images(with_views: bool, tmp_path: Path):
    """A patchwork without overlap gives what its parts gave, to the last bit, but at seams."""
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "model.pth"))
    cfg = predictor.cfg.clone()
    cfg.INPUT.MIN_SIZE_TEST, cfg.TEST.AUG.MIN_SIZES = 0, (0,)
    cfg.TEST.AUG.ENABLED = with_views
    predictor = Predictor(predictor.model, cfg, CLASS_NAMES)
    side = 192
    parts = [[pixels(side, side, seed=2 * y + x) for x in range(2)] for y in range(2)]
    patchwork = np.concatenate([np.concatenate(row, axis=1) for row in parts])
    found = predictor.with_options(ViewOptions(tile=side, overlap=0.0)).detect(patchwork)
    assert found.image_size == patchwork.shape[:2]
    actual = as_rows(found, 0, 0)
    for y, row in enumerate(parts):
        for x, part in enumerate(row):
            alone = predictor.detect(part)
            inner = ((alone.pred_boxes.tensor > 5) & (alone.pred_boxes.tensor < side - 5)).all(1)
            expected = as_rows(alone[inner], side * x, side * y)
            corner, end = (side * x + 5, side * y + 5), (side * (x + 1) - 5, side * (y + 1) - 5)
            inside = {r for r in actual if r[0] > corner[0] and r[1] > corner[1]}
            inside = {r for r in inside if r[2] < end[0] and r[3] < end[1]}
            assert inside == expected and len(expected) > 3


def as_rows(found: Instances, x: int, y: int) -> set[tuple[float, ...]]:
    """Boxes that are moved by x and y pixels, scores and classes."""
    boxes = found.pred_boxes.tensor + torch.tensor([x, y, x, y], dtype=torch.float32)
    columns = (boxes, found.scores[:, None], found.pred_classes[:, None].float())
    return set(map(tuple, torch.cat(columns, dim=1).tolist()))


def test_an_image_no_larger_than_a_tile_is_not_cut(tmp_path: Path):
    predictor = Predictor.from_checkpoint(write_checkpoint(tmp_path / "model.pth"))
    image = pixels(60, 90)
    one = predictor.detect(image)
    other = predictor.with_options(ViewOptions(tile=90, whole=True)).detect(image)
    assert torch.equal(one.pred_boxes.tensor, other.pred_boxes.tensor)
    assert torch.equal(one.scores, other.scores)
