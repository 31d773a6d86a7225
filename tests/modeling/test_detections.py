"""Clipping and scaling against Detectron2's, which look at boxes with the host."""

import copy

import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances

from clq.modeling.candidates import Candidates
from clq.modeling.detections import chosen_instances, postprocess
from reference.host_waits import host_waits

SIZE = (48, 64)
# Beside two ordinary boxes: beyond the image, of no width, and so thin that scaling makes it empty.
ORDINARY = [[10.5, 3.25, 30.0, 40.0], [-9.0, -3.0, 90.0, 20.0]]
BOXES = {
    "ordinary": ORDINARY,
    "outside": [*ORDINARY, [70.0, 5.0, 80.0, 9.0]],
    "no width": [[5.0, 5.0, 5.0, 20.0], *ORDINARY],
    "thin": [*ORDINARY, [40.0, 5.0, 40.000004, 20.0]],
    "at the border": [[63.999996, 5.0, 64.0, 20.0], *ORDINARY],
    "none": [],
}


def choose(boxes: list, others: int = 2):
    """Candidates of which the last ones are not chosen, and nonsense as boxes of these."""
    count = len(boxes)
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    rows = torch.cat((rows, torch.full((others, 4), torch.nan)))
    numbers = torch.arange(len(rows))
    found = Candidates(numbers, numbers % 3, 1 / (numbers + 1.0), numbers < count)
    return found, rows


@pytest.mark.parametrize("boxes", BOXES)
@pytest.mark.parametrize("size", ((48, 64), (100, 61), (1, 1), (4801, 6401)))
def test_as_detectron2_does_it(boxes, size):
    found, rows = choose(BOXES[boxes])
    count = len(BOXES[boxes])
    expected = Instances(
        SIZE,
        pred_boxes=Boxes(rows[:count].clone()),
        scores=found.scores[:count],
        pred_classes=found.classes[:count],
    )
    expected.pred_boxes.clip(SIZE)
    detections = chosen_instances(found, rows, SIZE)
    assert detections.are_sound == (boxes in ("ordinary", "none"))
    for a, b in (
        copy.deepcopy((detections.instances, expected)),
        (postprocess(detections, *size), detector_postprocess(expected, *size)),
    ):
        assert a.image_size == b.image_size and set(a.get_fields()) == set(b.get_fields())
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        assert torch.equal(a.scores, b.scores) and torch.equal(a.pred_classes, b.pred_classes)


@pytest.mark.parametrize("value", (torch.nan, torch.inf))
def test_a_chosen_box_that_is_not_finite_raises(value):
    found, rows = choose(ORDINARY)
    rows[1, 2] = value
    with pytest.raises(AssertionError, match="infinite or NaN"):
        chosen_instances(found, rows, SIZE)


def test_the_host_synchronizes_once():
    """For the number of candidates, and for nothing at another size."""
    candidates = choose(ORDINARY)
    waits = host_waits(lambda: postprocess(chosen_instances(*candidates, SIZE), 100, 120))
    assert waits == ["aten::_local_scalar_dense"]
