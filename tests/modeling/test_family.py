"""The members of the family: their losses against a plain oracle, their scores, a new member."""

import ast
import itertools
import re

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from clq.modeling.family import BOX_CODINGS, CLASS_LOSSES, QUALITY_BRANCHES
from clq.modeling.quality import LocalizationQuality
from reference.devices import current, on_device
from reference.family import MEMBERS, plain_losses
from reference.host_waits import host_waits
from reference.members import NUM_CLASSES, build, first_image, member_config, random_batch
from reference.tiny import ROOT


@pytest.mark.parametrize("member", MEMBERS)
def test_a_config_is_its_row_of_the_table(member):
    coding, quality, class_loss = MEMBERS[member]
    options = member_config(member).MODEL.CLQ
    assert (options.BOX_CODING, options.QUALITY, options.CLASS_LOSS) == (
        coding,
        quality,
        class_loss,
    )
    assert options.ALIGNMENT == (member == "clq")
    assert options.CLASS_TARGET == "iou" and not options.DETACH_OFFSETS
    assert options.ALPHA == 0.3


def test_every_part_is_in_some_member():
    parts = [set(column) for column in zip(*MEMBERS.values(), strict=True)]
    assert parts == [set(BOX_CODINGS), set(QUALITY_BRANCHES), set(CLASS_LOSSES)]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("empty", (False, True), ids=("objects", "no object"))
@pytest.mark.parametrize("member", MEMBERS)
def test_losses_equal_the_plain_oracle(member, empty):
    detector = build(member)
    batch = random_batch(detector, empty=empty)
    losses = on_device(detector.criterion)(*batch)
    expected = plain_losses(member, *(None if x is None else x.double() for x in batch))
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=2e-5, abs=1e-7), name
        assert empty == (value == 0) or name == "loss_cls"


@pytest.mark.parametrize("member, alpha", (("clq", 0.0), ("clq", 0.75), ("atss_clq", 1.0)))
def test_alpha_is_the_exponent_of_the_quality(member, alpha):
    batch = random_batch(build(member), empty=False)
    losses = build(member, **{"MODEL.CLQ.ALPHA": alpha}).criterion(*batch)
    doubles = (None if x is None else x.double() for x in batch)
    for name, expected in plain_losses(member, *doubles, alpha=alpha).items():
        assert losses[name].item() == pytest.approx(expected, rel=2e-5), name


def test_a_hard_target_learns_1():
    detector = build("gfl", **{"MODEL.CLQ.CLASS_TARGET": "hard"})
    anchors, logits, dists, _, labels, boxes = random_batch(detector, empty=False)
    sure = torch.full_like(logits[..., :1], 30.0)  # of the one class that every anchor has
    batch = (anchors, sure, dists, None, labels.clamp(max=0), boxes)
    assert detector.criterion(*batch)["loss_cls"] < 1e-6
    assert build("gfl").criterion(*batch)["loss_cls"] > 1


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("member", MEMBERS)
def test_scores_rank_by_the_member_s_product(member):
    keys = {"MODEL.CLQ.SCORE_THRESH_TEST": 0.0, "MODEL.CLQ.TOPK_CANDIDATES_TEST": 1000}
    detector = build(member, **keys).eval()
    sides = [8 // 2**i or 1 for i in range(5)]
    features = [torch.randn(1, 8, side, side, device=current()) for side in sides]
    with torch.no_grad():
        predictions = detector.head(features)
        anchors = detector.anchor_generator(features)
        found = detector.candidates(
            anchors, *first_image(detector, predictions), (64, 64)
        ).instances
    logits, _, quality = predictions
    exponent = {"none": 0.0, "centerness": 1.0, "localization": 0.3}[MEMBERS[member][1]]
    assert (quality is None) == (exponent == 0)
    expected = []
    for level in range(5):
        product = logits[level].sigmoid()
        if quality is not None:
            product = product * quality[level].sigmoid() ** exponent
        expected.append(product.flatten().sort(descending=True).values)
    torch.testing.assert_close(found.scores, torch.cat(expected), rtol=1e-5, atol=1e-7)


def test_centerness_is_multiplied_before_the_threshold():
    """Class probability 0.09 alone would pass 0.05; with centerness 1/2 it does not."""
    detector = build("atss", **{"MODEL.CLQ.SCORE_THRESH_TEST": 0.05})
    logit = torch.logit(torch.tensor(0.09))
    maps = [torch.full((1, NUM_CLASSES, 1, 1), logit)], [torch.zeros(1, 4, 1, 1)]
    anchors = [Boxes(torch.tensor([[0.0, 0.0, 64.0, 64.0]]))]
    for quality, found in ((0.0, 0), (3.0, NUM_CLASSES)):
        rows = first_image(detector, (*maps, [torch.full((1, 1, 1, 1), quality)]))
        result = detector.suppress(detector.candidates(anchors, *rows, (64, 64)))
        assert len(result.instances) == found


def image_and_boxes(boxes: list) -> dict:
    gt = Instances((64, 96))
    gt.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    gt.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    generator = torch.Generator().manual_seed(len(boxes))
    return {"image": torch.rand(3, 64, 96, generator=generator) * 255, "instances": gt}


CROWD = [[x, y, x + 20, y + 20] for x, y in itertools.product(range(0, 70, 5), range(0, 40, 5))]
BATCHES = {
    "one object": [image_and_boxes([[10, 10, 60, 50]])],
    "one image empty": [image_and_boxes([[10, 10, 60, 50]]), image_and_boxes([])],
    "none in the batch": [image_and_boxes([]), image_and_boxes([])],
    "crowd": [image_and_boxes(CROWD)],
    "below a stride": [image_and_boxes([[30, 30, 33, 33]])],
    "partly outside": [image_and_boxes([[-30, -30, 40, 40]])],
}


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("member", [*MEMBERS, "atss_clq_align"])
def test_every_member_trains_on_any_batch(member, batch):
    detector = build(member).train()
    losses = detector(BATCHES[batch])
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("member", [*MEMBERS, "atss_clq_align"])
def test_a_training_step_of_any_member_synchronizes_once(member):
    """Once, to learn which anchors are positive; Detectron2's ImageList reads two host numbers."""
    detector = build(member).train()
    waits = host_waits(lambda: sum(detector(BATCHES["one image empty"]).values()).backward())
    assert [name for name in waits if name != "aten::_local_scalar_dense"] == ["aten::nonzero"]
    assert len(waits) <= 3


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("member", [*MEMBERS, "atss_clq_align"])
def test_a_member_in_half_precision_is_close_to_full(member):
    detector = build(member).train()
    full = detector(BATCHES["one image empty"])
    with torch.autocast(current().type, dtype=torch.bfloat16):
        mixed = detector(BATCHES["one image empty"])
    for name, loss in mixed.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, full[name], rtol=0.05, atol=0.02)
    sum(mixed.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


def test_detached_offsets_keep_the_class_loss_from_the_box():
    for detached in (True, False):
        detector = build("clq", **{"MODEL.CLQ.DETACH_OFFSETS": detached}).train()
        detector(BATCHES["one object"])["loss_cls"].backward()
        gradient = detector.head.bbox_pred.weight.grad
        assert detached == (gradient is None or not gradient.any())


def test_alignment_is_one_module_for_both_codings():
    """Steered by the decoded distances: equal boxes give equal features."""
    deltas, distribution = build("atss_clq_align").head, build("clq").head
    shift, log_size = torch.randn(2, 1, 2, 3, 5)
    code = torch.cat((shift, log_size), dim=1)
    ltrb = deltas.box2box_transform.distances(code)
    half, center = 4 * (log_size / 5).exp(), shift / 10 * 8
    torch.testing.assert_close(ltrb, torch.cat((half - center, half + center), dim=1))
    distribution.alignment.load_state_dict(deltas.alignment.state_dict())
    feature = torch.randn(1, 8, 3, 5)
    torch.testing.assert_close(
        deltas.alignment(feature, ltrb), distribution.alignment(feature, ltrb)
    )


def recipe() -> str:
    """The listing of docs/family.md."""
    (listing,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/family.md").read_text(), re.DOTALL
    )
    return listing


def test_the_recipe_is_one_short_class_and_one_line():
    tree = ast.parse(recipe())
    assert [type(node) for node in tree.body] == [ast.ClassDef, ast.Assign]
    assert len(recipe().splitlines()) <= 20


def test_a_fifth_member_is_a_class_and_a_line(monkeypatch):
    monkeypatch.setitem(QUALITY_BRANCHES, "distribution_statistics", None)  # undone afterwards
    exec(
        recipe(),
        {
            "torch": torch,
            "nn": nn,
            "LocalizationQuality": LocalizationQuality,
            "QUALITY_BRANCHES": QUALITY_BRANCHES,
            "__name__": __name__,
        },
    )
    detector = build("gfl", **{"MODEL.CLQ.QUALITY": "distribution_statistics"}).train()
    losses = detector(BATCHES["one object"])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_dfl"}
    losses["loss_cls"].backward()
    for name, parameter in detector.head.quality.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    with torch.no_grad():
        result = detector.eval()(BATCHES["one object"])[0]["instances"]
    assert len(result) > 0 and (result.scores.diff() <= 0).all()
