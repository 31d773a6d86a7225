"""The exported part of a detector, in PyTorch: what NMS would see is all there."""

import pytest
import torch
from detectron2.structures import Boxes
from torchvision.ops import deform_conv2d

from clq.exporting.network import ExportableDetector
from clq.modeling.deform_conv import deform_conv2d_by_grid_sample
from reference.members import build

MEMBERS = ("atss", "gfl", "atss_clq", "atss_clq_align", "clq")
DEFORMABLE = {"MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True]}
FORMS = {"grid sample": deform_conv2d_by_grid_sample, "operator": deform_conv2d}


def detector(member, **keys):
    """With predictions that differ from cell to cell, and offsets that are not 0."""
    model = build(member, **keys).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        spread = 0.1 if any(part in name for part in ("pred", "cls_score")) else 0.0
        spread = 0.01 if "conv2_offset" in name else spread
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return model


def images(*shape):
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(2))


def assert_same_candidates(model, network, batch):
    """Choose candidates among the network's rows, and compare with the detector's own."""
    with torch.no_grad():
        boxes, scores = network(batch)
        expected = model.image_candidates([{"image": image} for image in batch])
    assert boxes.shape[:2] == scores.shape[:2] and boxes.dtype == scores.dtype == torch.float32
    for of_image, image_boxes, image_scores in zip(expected, boxes, scores):
        own = of_image.instances
        rows, classes = torch.ones_like(image_scores).nonzero(as_tuple=True)
        clipped = Boxes(image_boxes[rows].clone())
        clipped.clip(batch.shape[2:])
        found = in_units(clipped, image_scores.flatten(), classes)
        wanted = in_units(own.pred_boxes, own.scores, own.pred_classes)
        assert len(wanted) > 50
        assert torch.cdist(wanted, found, p=torch.inf).amin(dim=1).max() < 0.1


def in_units(boxes, scores, classes):
    """Rows of boxes in pixels, scores in 1e-4 and classes, (candidates, 6)."""
    return torch.cat((boxes.tensor, 1e4 * scores[:, None], classes[:, None]), dim=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", ("pairs", "anchors"))
@pytest.mark.parametrize("member", MEMBERS)
def test_the_candidates_of_either_rule_are_among_the_rows(member, rule, form):
    model = detector(member, **{"MODEL.CLQ.CANDIDATE_RULE_TEST": rule})
    network = ExportableDetector(model, FORMS[form])
    for shape in ((1, 3, 64, 64), (2, 3, 96, 160)):
        assert_same_candidates(model, network, images(*shape))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("modulated", (False, True))
def test_deformable_stages_take_the_form_too(modulated, form):
    keys = {**DEFORMABLE, "MODEL.RESNETS.DEFORM_MODULATED": modulated}
    model = detector("clq", **keys)
    calls = []

    def counted(*tensors, **options):
        calls.append(options)
        return FORMS[form](*tensors, **options)

    network = ExportableDetector(model, counted)
    assert_same_candidates(model, network, images(1, 3, 64, 96))
    assert len(calls) == 4 + 6 + 3 + 5  # blocks of three stages, levels


def test_rows_are_the_best_of_each_level_in_order():
    model = detector("clq")
    boxes, scores = ExportableDetector(model, deform_conv2d)(images(2, 3, 96, 160))
    cells = [
        min(rows * columns, 20) for rows, columns in ((12, 20), (6, 10), (3, 5), (2, 3), (1, 2))
    ]
    assert boxes.shape == (2, sum(cells), 4) and scores.shape == (2, sum(cells), 3)
    for level in scores.amax(dim=2).split(cells, dim=1):
        assert torch.equal(level, level.sort(dim=1, descending=True).values)
    assert (boxes < 0).any()  # not clipped


def test_the_detector_itself_stays_as_it_is():
    model = detector("clq")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ExportableDetector(model, deform_conv2d)
    assert model.head.alignment.form is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
