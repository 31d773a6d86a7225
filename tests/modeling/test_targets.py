"""Ground truth of a batch, looked up by anchor."""

import torch
from detectron2.structures import Boxes, Instances

from clq.modeling.targets import GroundTruth

BOXES = torch.tensor([[0.0, 0, 8, 8], [1, 2, 30, 40], [5, 5, 9, 9]])


def instances(boxes: torch.Tensor, classes: list[int]) -> Instances:
    return Instances(
        (64, 64), gt_boxes=Boxes(boxes), gt_classes=torch.tensor(classes, dtype=torch.int64)
    )


def test_images_follow_one_another():
    batch = [instances(BOXES[:1], [4]), instances(BOXES[:0], []), instances(BOXES[1:], [0, 2])]
    found = GroundTruth.of(batch, torch.device("meta"))
    assert found.counts == [1, 0, 2] and found.boxes.is_meta and found.classes.is_meta
    found = GroundTruth.of(batch, torch.device("cpu"))
    assert torch.equal(found.boxes, BOXES) and found.classes.tolist() == [4, 0, 2]
    classes, boxes = found.at(torch.tensor([[3, 0], [2, 3], [1, 1]]), background=7)
    assert classes.tolist() == [[7, 4], [2, 7], [0, 0]]
    assert torch.equal(boxes[2, 0], BOXES[1]) and not boxes[0, 0].any()


def test_a_batch_without_objects_is_background():
    found = GroundTruth.of([instances(BOXES[:0], [])], torch.device("cpu"))
    classes, boxes = found.at(torch.zeros(1, 3, dtype=torch.int64), background=7)
    assert classes.tolist() == [[7, 7, 7]] and not boxes.any()
