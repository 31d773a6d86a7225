"""The first training images in the report are those that a training run is given."""

import itertools
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from clq.engine import CLQTrainer, build_config
from clq.evaluation.report.first_batch import read_first_images
from reference.tiny import TinyData, command_line, parse

pytestmark = pytest.mark.usefixtures("cpu_only")


def config(data: TinyData, output: Path, **keys) -> CfgNode:
    return build_config(parse(command_line(data, output, keys=keys)))


def test_matched_anchors_are_those_of_the_model(tiny_data: TinyData, tmp_path: Path):
    cfg = config(tiny_data, tmp_path)
    model = CLQTrainer.build_model(cfg)
    batches = itertools.islice(CLQTrainer.build_train_loader(cfg), 2)
    samples = [sample for batch in batches for sample in batch]
    expected = []
    for sample in samples:  # alone, so that none is padded to the size of another
        images = model.preprocess_image([sample])
        maps = [torch.empty(0, *shape) for shape in map_shapes(images.tensor.shape[-2:])]
        anchors = model.anchor_generator(maps)
        sizes = images.image_sizes
        (labels,), _ = model.label_anchors(anchors, [sample["instances"]], sizes)
        counts = [
            int(((part >= 0) & (part < model.num_classes)).sum())
            for part in labels.split([len(level) for level in anchors])
        ]
        strides = (8, 16, 32, 64, 128)
        matched = {s: count for s, count in zip(strides, counts, strict=True) if count}
        expected.append((len(sample["instances"]), matched))
    found = [(image.num_objects, image.num_anchors) for image in read_first_images(cfg, 4)]
    assert found == expected and any(anchors for _, anchors in found)


def map_shapes(size):
    return [[-(-side // stride) for side in size] for stride in (8, 16, 32, 64, 128)]


def test_a_run_with_a_random_seed_needs_no_other_process(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse():
        raise AssertionError("asks all processes for a seed")

    monkeypatch.setattr("clq.data.loader.comm.shared_random_seed", refuse)
    images = read_first_images(config(tiny_data, tmp_path, SEED=-1), 3)
    assert len(images) == 3 and all(image.thumbnail.width <= 420 for image in images)


def test_captions():
    from clq.evaluation.report.first_batch import TrainingImage

    assert TrainingImage(None, 1, {8: 3, 16: 2}).caption == (
        "1 object; matched anchors: 3 at stride 8, 2 at stride 16"
    )
    assert TrainingImage(None, 0, {}).caption == "0 objects; matched anchors: none"
