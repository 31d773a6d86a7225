"""Quality branches: their inputs, targets and box weights."""

import pytest
import torch

from clq.modeling.quality import Centerness, LocalizationQuality, NoQuality

ANCHORS = torch.tensor([[-28.0, -28, 36, 36], [-28.0, -28, 36, 36], [0.0, 0, 64, 64]])
BOXES = torch.tensor([[0.0, 0, 8, 8], [2.0, 0, 20, 16], [31.0, 0, 95, 33]])
IOU = torch.tensor([0.1, 0.5, 0.9])
SCORES = torch.tensor([0.2, 0.3, 0.4])
CLASSIFIED, REGRESSED = torch.zeros(1, 4, 3, 5), torch.ones(1, 4, 3, 5)


def test_centerness_of_hand_worked_cells():
    """Centres (4, 4), (4, 4) and (32, 32)."""
    target = Centerness(4, 0.3).target(IOU, ANCHORS, BOXES)
    second = (2 / 16) * (4 / 12)  # l, r = 2, 16; t, b = 4, 12
    third = (1 / 63) * (1 / 32)  # l, r = 1, 63; t, b = 32, 1
    torch.testing.assert_close(target, torch.tensor([1.0, second, third]).sqrt())


def test_centerness_weighs_box_losses_by_its_target():
    branch = Centerness(4, 0.3)
    target = branch.target(IOU, ANCHORS, BOXES)
    assert branch.box_weights(SCORES, target) is target
    assert (branch.train_alpha, branch.test_alpha) == (0.0, 1.0)


def test_localization_quality_learns_the_iou_and_weighs_by_score():
    branch = LocalizationQuality(4, 0.3)
    target = branch.target(IOU, ANCHORS, BOXES)
    assert target is IOU and branch.box_weights(SCORES, target) is SCORES
    assert branch.train_alpha == branch.test_alpha == 0.3


def test_no_quality_predicts_and_learns_nothing():
    branch = NoQuality(4, 0.3)
    assert branch(CLASSIFIED, REGRESSED, REGRESSED) is None
    assert branch.target(IOU, ANCHORS, BOXES) is None
    assert branch.box_weights(SCORES, None) is SCORES
    assert branch.train_alpha == branch.test_alpha == 0
    assert not list(branch.parameters())


@pytest.mark.parametrize("branch, read", ((LocalizationQuality, 0), (Centerness, 1)))
def test_a_branch_reads_its_tower(branch, read):
    module = branch(4, 0.3)
    torch.nn.init.constant_(module.predictor.weight, 1.0)
    logits = module(CLASSIFIED, REGRESSED, torch.full((1, 4, 3, 5), torch.nan))
    assert logits.shape == (1, 1, 3, 5)
    assert logits[0, 0, 1, 2] == read * 4 * 9  # channels x taps of a cell inside
