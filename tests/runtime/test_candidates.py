"""Candidates from the rows of a graph against those from all anchors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from clq.modeling.candidates import CANDIDATE_RULES
from clq.modeling.joint_score import joint_scores
from clq.runtime.candidates import choose_candidates
from reference.settings import SETTINGS

STRIDES, SIZE = (8, 16, 32, 64, 128), (160, 224)


def graph_rows(scores: Tensor, sizes: list[int], topk: int) -> tuple[Tensor, Tensor]:
    """Indices and scores of the anchors that a graph chooses on each level, best first."""
    rows, start = [], 0
    for size in sizes:
        best = scores[start : start + size].amax(dim=1)
        rows.append(start + best.topk(min(topk, size)).indices)
        start += size
    return torch.cat(rows), scores[torch.cat(rows)]


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
@pytest.mark.parametrize("topk", [5, 40, 1000])
@pytest.mark.parametrize("has_quality", [True, False])
def test_candidates_are_those_of_the_detector(rule: str, topk: int, has_quality: bool):
    torch.manual_seed(topk)
    sizes = [-(-SIZE[0] // s) * -(-SIZE[1] // s) for s in STRIDES]
    logits = torch.randn(sum(sizes), 6) * 2 - 1
    quality = torch.randn(sum(sizes), 1) if has_quality else None
    corners = torch.rand(sum(sizes), 2) * 100
    boxes = torch.cat((corners, corners + 50), dim=1)
    found = CANDIDATE_RULES[rule](
        logits, quality, sizes=sizes, alpha=0.5, score_thresh=0.3, topk=topk
    )
    chosen = found.is_chosen
    rows, scores = graph_rows(joint_scores(logits, quality, 0.5)[0].exp(), sizes, topk)
    settings = replace(SETTINGS, score_threshold=0.3, topk=topk, candidate_rule=rule)
    level_sizes = [min(size, topk) for size in sizes]
    actual = choose_candidates(boxes[rows].numpy(), scores.numpy(), settings, level_sizes, SIZE)
    assert len(actual) == int(chosen.sum()) > 10
    np.testing.assert_array_equal(actual.scores, found.scores[chosen].numpy())
    np.testing.assert_array_equal(actual.classes, found.classes[chosen].numpy())
    np.testing.assert_array_equal(actual.boxes, boxes[found.rows[chosen]].numpy())


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_fewer_candidates_than_the_graph_has_are_chosen_of_each_level(rule: str):
    torch.manual_seed(0)
    sizes, logits = [40, 10], torch.randn(50, 3)
    options = {"sizes": sizes, "alpha": 0.0, "score_thresh": 0.1, "topk": 6}
    found = CANDIDATE_RULES[rule](logits, None, **options)
    rows, scores = graph_rows(joint_scores(logits, None, 0.0)[0].exp(), sizes, 30)
    settings = replace(SETTINGS, score_threshold=0.1, topk=6, candidate_rule=rule)
    boxes = np.zeros((len(rows), 4), np.float32)
    actual = choose_candidates(boxes, scores.numpy(), settings, [30, 10], SIZE)
    np.testing.assert_array_equal(actual.scores, found.scores[found.is_chosen].numpy())


def test_boxes_are_clipped_to_the_image_without_padding():
    boxes = np.array([[-5, 10, 300, 400]], np.float32)
    scores = np.array([[0.9, 0.0]], np.float32)
    (box,) = choose_candidates(boxes, scores, SETTINGS, [1], (310, 200)).boxes
    np.testing.assert_array_equal(box, [0, 10, 200, 310])
