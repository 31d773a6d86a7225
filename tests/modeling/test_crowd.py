"""Background in crowds is not learned: which cells that is, and what becomes of labels and loss."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from clq.modeling.crowd import CROWD_CLASS, is_in_crowd, separate_crowds
from reference.host_waits import host_waits
from reference.members import NUM_CLASSES, build

STRIDES = (8, 16, 32, 64, 128)
SIZE = (96, 128)
OBJECT, CROWD = [10, 10, 60, 70], [40, 20, 110, 90]
TINY_CROWD = [31, 31, 33, 33]
WHOLE = [0, 0, 128, 96]


def anchor(x: float, y: float, stride: float) -> list[float]:
    """The anchor of a location: a square of 8 strides around it."""
    return [x - 4 * stride, y - 4 * stride, x + 4 * stride, y + 4 * stride]


def boxes(rows: list[list[float]]) -> Boxes:
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))


def plain_is_in_crowd(anchors: Boxes, crowds: Boxes, size: tuple[int, int]) -> list[bool]:
    """The rule as one would say it, a cell and a crowd at a time."""
    found = []
    for left, top, right, bottom in anchors.tensor.tolist():
        x, y, half = (left + right) / 2, (top + bottom) / 2, (right - left) / 16
        x0, x1 = max(x - half, 0), min(x + half, size[1])
        y0, y1 = max(y - half, 0), min(y + half, size[0])
        area, share = max(x1 - x0, 0) * max(y1 - y0, 0), 0.0
        for a, b, c, d in crowds.tensor.tolist() if area else ():
            common = max(min(x1, c) - max(x0, a), 0) * max(min(y1, d) - max(y0, b), 0)
            share = max(share, common / area)
        found.append(share > 0.5)
    return found


# ------------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("place", "crowd", "expected"),
    [
        ((16, 16, 8), [12, 12, 20, 16.1], True),  # 4.1 of the 8 rows of the cell 12 .. 20
        ((16, 16, 8), [12, 12, 20, 16], False),  # half is not more than half
        ((16, 16, 8), [12, 12, 17.6, 17.8], True),  # 5.6 * 5.8 = 32.48 of 64
        ((16, 16, 8), [12, 12, 17.6, 17.6], False),  # 31.36 of 64
        ((16, 16, 8), [0, 0, 16.1, 100], True),
        ((16, 16, 16), [12, 12, 20, 20], False),  # a quarter of the cell 8 .. 24
        ((0, 16, 8), [0, 12, 2.1, 20], True),  # of -4 .. 4 only 0 .. 4 is in the image
        ((0, 0, 8), [0, 0, 4, 2], False),  # half of the 4 x 4 pixels in the image
        ((0, 0, 8), [0, 0, 4, 2.1], True),
        ((128, 96, 8), [124, 92, 200, 200], True),  # the last corner, and a crowd beyond it
        ((136, 16, 8), [0, 0, 500, 500], False),  # outside the image
        ((16, 16, 8), [0, 0, 0, 0], False),
    ],
)
def test_hand_numbers(place: tuple, crowd: list, expected: bool):
    found = is_in_crowd(boxes([anchor(*place)]), boxes([crowd]), SIZE)
    assert found.dtype == torch.bool and found.tolist() == [expected]


def test_shares_in_several_crowds_do_not_add_up():
    halves = [[12, 12, 20, 16], [12, 16, 20, 20]]
    assert is_in_crowd(boxes([anchor(16, 16, 8)]), boxes(halves), SIZE).tolist() == [False]


@pytest.mark.parametrize("seed", range(4))
def test_random_crowds_as_a_plain_loop(seed: int):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(6, 2, generator=generator) * 140 - 20
    extent = torch.rand(6, 2, generator=generator) * 80
    crowds = Boxes(torch.cat((corner, corner + extent), dim=1))
    places = [(x, y, s) for s in STRIDES for y in range(0, 160, s) for x in range(0, 192, s)]
    anchors = boxes([anchor(*place) for place in places])
    found = is_in_crowd(anchors, crowds, SIZE)
    assert found.tolist() == plain_is_in_crowd(anchors, crowds, SIZE)
    assert 0 < found.sum() < len(places)


def test_objects_and_crowds_are_told_apart_by_class():
    classes = torch.tensor([2, CROWD_CLASS, 0])
    objects, crowds = separate_crowds(boxes([OBJECT, CROWD, WHOLE]), classes)
    assert objects.tensor.tolist() == [OBJECT, [0, 0, 0, 0], WHOLE]
    assert crowds.tensor.tolist() == [[0, 0, 0, 0], CROWD, [0, 0, 0, 0]]


def test_no_box_at_all():
    objects, crowds = separate_crowds(boxes([]), torch.zeros(0, dtype=torch.int64))
    assert objects.tensor.shape == crowds.tensor.shape == (0, 4)
    assert is_in_crowd(boxes([anchor(16, 16, 8)]), crowds, SIZE).tolist() == [False]


# ----------------------------------------------------------------------------- labels and losses


@pytest.fixture(scope="module")
def detector():
    return build("clq", **{"MODEL.CLQ.IGNORE_CROWD": True})


def sample(objects: list, crowds: list, size: tuple[int, int] = SIZE) -> dict:
    """A training input; crowds come first, as nothing says that they come last."""
    gt = Instances(size)
    gt.gt_boxes = boxes([*crowds, *objects])
    gt.gt_classes = torch.tensor([CROWD_CLASS] * len(crowds) + [1] * len(objects)).long()
    generator = torch.Generator().manual_seed(len(gt))
    return {"image": torch.rand(3, *size, generator=generator) * 255, "instances": gt}


def anchors_of(detector, size: tuple[int, int]) -> list[Boxes]:
    features = [torch.zeros(1, 1, -(-size[0] // s), -(-size[1] // s)) for s in STRIDES]
    return detector.anchor_generator(features)


def labels_of(detector, objects: list, crowds: list, size: tuple[int, int] = SIZE):
    """Labels and matched boxes of one image in a batch of 160 x 160 pixels."""
    instances = sample(objects, crowds, size)["instances"]
    labels, matched = detector.label_anchors(anchors_of(detector, (160, 160)), [instances], [size])
    return labels[0], matched[0]


CASES = {
    "no crowd": ([OBJECT], []),
    "nothing": ([], []),
    "only a crowd": ([], [CROWD]),
    "the whole image": ([OBJECT], [WHOLE]),
    "below a cell": ([OBJECT], [TINY_CROWD]),
    "an object inside": ([[50, 30, 90, 80]], [CROWD]),
    "the crowd's own box": ([CROWD], [CROWD]),
    "several": ([OBJECT, [70, 10, 120, 50]], [CROWD, TINY_CROWD, [0, 60, 50, 96]]),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_are_those_without_crowds_but_for_background_in_them(detector, case: str):
    objects, crowds = CASES[case]
    labels, matched = labels_of(detector, objects, crowds)
    plain, plain_matched = labels_of(build("clq"), objects, [])
    anchors = Boxes.cat(anchors_of(detector, (160, 160)))
    in_crowd = torch.tensor(plain_is_in_crowd(anchors, boxes(crowds), SIZE))
    expected = torch.where(in_crowd & (plain == NUM_CLASSES), -1, plain)
    assert torch.equal(labels, expected) and torch.equal(matched, plain_matched)
    assert (labels == 1).any() == bool(objects)


def test_a_crowd_over_the_image_leaves_objects_and_padding(detector):
    size = (70, 100)  # padded to 96 x 128, in a batch of 160 x 160
    labels, _ = labels_of(detector, [OBJECT], [[0, 0, 100, 70]], size)
    anchors = Boxes.cat(anchors_of(detector, (160, 160)))
    centers, half = anchors.get_centers(), (anchors.tensor[:, 2] - anchors.tensor[:, 0]) / 16
    reaches = (centers[:, 0] - half < 100) & (centers[:, 1] - half < 70)
    beyond = (centers[:, 0] >= 128) | (centers[:, 1] >= 96)
    assert torch.equal(labels == NUM_CLASSES, ~reaches & ~beyond)
    assert (labels == NUM_CLASSES).any() and (labels == 1).any()


def test_a_tiny_crowd_changes_nothing(detector):
    with_crowd, without = (
        labels_of(detector, [OBJECT], crowds)[0] for crowds in ([TINY_CROWD], [])
    )
    assert torch.equal(with_crowd, without)


BATCHES = {
    "ordinary": [sample([OBJECT], [CROWD]), sample([OBJECT, [70, 10, 120, 50]], [])],
    "sizes differ": [sample([OBJECT], [CROWD]), sample([], [[0, 0, 200, 33]], (33, 200))],
    "only crowds": [sample([], [CROWD]), sample([], [WHOLE])],
    "nothing": [sample([], []), sample([], [])],
}


@pytest.mark.parametrize("batch", BATCHES)
def test_the_loss_is_that_of_the_labels(detector, batch: str):
    """The same step as that of a detector that knows no crowds and is given these labels."""
    plain, inputs = build("clq"), BATCHES[batch]
    detector.train().zero_grad()
    losses = detector(inputs)
    sum(losses.values()).backward()

    label_anchors = plain.label_anchors

    def label_by_hand(anchors, gt_instances, image_sizes, **options):
        objects = [gt[gt.gt_classes != CROWD_CLASS] for gt in gt_instances]
        labels, matched = label_anchors(anchors, objects, image_sizes, **options)
        for i, gt in enumerate(gt_instances):
            crowds = gt[gt.gt_classes == CROWD_CLASS].gt_boxes
            found = plain_is_in_crowd(Boxes.cat(anchors), crowds, image_sizes[i])
            labels[i][torch.tensor(found) & (labels[i] == NUM_CLASSES)] = -1
        return labels, matched

    plain.label_anchors = label_by_hand
    expected = plain.train()(inputs)
    assert {name: loss.item() for name, loss in losses.items()} == {
        name: loss.item() for name, loss in expected.items()
    }
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_crowds_lower_the_class_loss_of_detections_in_them(detector):
    inputs = [sample([], [WHOLE])]
    without = [{**inputs[0], "instances": sample([], [])["instances"]}]
    with torch.no_grad():
        ignored, learned = detector.train()(inputs), detector(without)
    assert 0 <= ignored["loss_cls"] < 0.5 * learned["loss_cls"]


def test_crowds_add_no_synchronization(detector):
    detector.train().zero_grad()
    waits = host_waits(lambda: sum(detector(BATCHES["ordinary"]).values()).backward())
    assert [name for name in waits if name != "aten::_local_scalar_dense"] == ["aten::nonzero"]
    without = host_waits(lambda: sum(build("clq").train()(BATCHES["nothing"]).values()).backward())
    assert len(waits) <= len(without) <= 3
