"""Predictor: the detections of an evaluation, from a checkpoint alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d

from clq.checkpoint import load_detector, write_detector
from clq.config.serialize import dump_config
from clq.data import CLQMapper
from clq.modeling import fast_inference_model
from clq.prediction import Predictor
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
