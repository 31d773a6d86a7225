"""Anchors and their cache."""

import copy
import pickle

import torch

from clq.modeling.anchors import CachedAnchorGenerator, anchors_at
from reference.members import build

STRIDES = (8, 16)


def maps(height: int, width: int) -> list[torch.Tensor]:
    return [torch.empty(1, 3, height // s, width // s) for s in STRIDES]


def tensors(generator, features) -> list[torch.Tensor]:
    return [boxes.tensor for boxes in generator(features)]


def test_the_same_shape_gives_the_same_tensors():
    generator = CachedAnchorGenerator(STRIDES)
    first = tensors(generator, maps(32, 64))
    other = tensors(generator, maps(64, 32))
    assert all(a is b for a, b in zip(first, tensors(generator, maps(32, 64))))
    assert first[0].shape == other[0].shape and not torch.equal(first[0], other[0])
    assert first[0][0].tolist() == [-32, -32, 32, 32] and first[1][1].tolist() == [-48, -64, 80, 64]


def test_another_device_has_its_own_anchors():
    generator = CachedAnchorGenerator(STRIDES)
    tensors(generator, maps(32, 64))
    generator.to("meta")
    assert {level.device.type for level in tensors(generator, maps(32, 64))} == {"meta"}


def test_a_copy_has_its_own_anchors_and_the_state_dict_none():
    generator = CachedAnchorGenerator(STRIDES)
    first = tensors(generator, maps(32, 64))
    for twin in (copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))):
        for a, b in zip(first, tensors(twin, maps(32, 64))):
            assert a is not b and torch.equal(a, b)
    assert not generator.state_dict()


def test_a_detector_that_has_run_is_copied_and_pickled():
    detector = build("clq").eval()
    names = set(detector.state_dict())
    batch = [{"image": torch.rand(3, 64, 96) * 255}]
    with torch.inference_mode():
        found = detector(batch)[0]["instances"]
        for twin in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
            again = twin(batch)[0]["instances"]
            assert torch.equal(found.pred_boxes.tensor, again.pred_boxes.tensor)
    assert set(detector.state_dict()) == names


def test_anchors_of_some_cells_are_those_of_all():
    for level, stride, feature in zip(
        CachedAnchorGenerator(STRIDES)(maps(96, 160)), STRIDES, maps(96, 160)
    ):
        cells = torch.randperm(len(level))[:30].view(2, 15)
        assert torch.equal(anchors_at(cells, feature.shape[3], stride), level.tensor[cells])
