"""NMS, votes and rescaling of arrays against torchvision and Detectron2."""

import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torchvision.ops import batched_nms

from clq.runtime.detections import ImageDetections, suppress, vote


def crowded(count: int, num_classes: int, seed: int) -> ImageDetections:
    """Boxes on few places, many of which overlap by about the threshold.

    Up to 1000 some scores are equal; above, torchvision does not keep the order of such.
    """
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (count, 2)) * 40 + rng.normal(0, 4, (count, 2))
    sizes = rng.uniform(20, 60, (count, 2))
    boxes = np.concatenate((corners, corners + sizes), axis=1).astype(np.float32)
    scores = rng.permutation(count) if count > 1000 else rng.integers(0, 200, count)
    scores = (scores / max(count, 200)).astype(np.float32)
    return ImageDetections((600, 700), boxes, scores, rng.integers(0, num_classes, count))


@pytest.mark.parametrize("count", [0, 1, 50, 1000, 1001, 3000])
@pytest.mark.parametrize("num_classes", [1, 80])
def test_nms_decides_as_torchvision(count: int, num_classes: int):
    for seed in range(3):
        found = crowded(count, num_classes, seed)
        columns = map(torch.from_numpy, (found.boxes, found.scores, found.classes))
        expected = found.select(batched_nms(*columns, 0.6).numpy())
        actual = suppress(found, 0.6, max_detections=10_000)
        np.testing.assert_array_equal(actual.boxes, expected.boxes)
        np.testing.assert_array_equal(actual.scores, expected.scores)
        np.testing.assert_array_equal(actual.classes, expected.classes)
        best = suppress(found, 0.6, max_detections=7)
        np.testing.assert_array_equal(best.boxes, expected.boxes[:7])


def test_votes_average_boxes_by_score():
    """Of the same class, and above the threshold alone; a box without area stays."""
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 2], [50, 50, 50, 60]]
    candidates = ImageDetections(
        (100, 100),
        np.array(boxes, np.float32),
        np.array([0.6, 0.4, 0.5, 0.3, 0.2], np.float32),
        np.array([0, 0, 1, 0, 0]),
    )
    kept = candidates.select(np.array([0, 2, 4]))
    averaged = vote(kept, candidates, iou_threshold=0.6)
    expected = np.array([[0, 0, 10, 9.6], [0, 0, 10, 10], [50, 50, 50, 60]])
    np.testing.assert_allclose(averaged.boxes, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(60, 90), (123, 77), (600, 901)])
def test_boxes_of_another_size_are_detectron2s(size: tuple[int, int]):
    """Those beyond the image are clipped, and those without area dropped."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-30, 130, (200, 4)).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    found = ImageDetections((60, 90), boxes, np.arange(200, dtype=np.float32), np.arange(200))
    instances = Instances((60, 90), pred_boxes=Boxes(torch.from_numpy(boxes.copy())))
    instances.scores = torch.from_numpy(found.scores)
    expected = detector_postprocess(instances, *size)
    actual = found.at_size(size)
    assert actual.image_size == size and 0 < len(actual) < 200
    np.testing.assert_array_equal(actual.boxes, expected.pred_boxes.tensor.numpy())
    np.testing.assert_array_equal(actual.scores, expected.scores.numpy())


def test_boxes_that_are_not_finite_are_an_error():
    found = ImageDetections((6, 9), np.full((1, 4), np.nan), np.ones(1), np.zeros(1, int))
    with pytest.raises(FloatingPointError, match="not finite"):
        found.clipped()
