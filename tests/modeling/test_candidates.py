"""The choice of candidates against one that scores every pair of an anchor and a class."""

import pytest
import torch

from clq.modeling import joint_scores
from clq.modeling.candidates import CANDIDATE_RULES, best_pairs
from reference.host_waits import host_waits


def plain_pairs(pred_logits, pred_quality, *, alpha, score_thresh, topk):
    """Score all, sort all, keep those above the threshold: row, class and score."""
    log_scores, _ = joint_scores(pred_logits, pred_quality, alpha)
    scores = log_scores.exp()
    order = log_scores.flatten().sort(descending=True, stable=True).indices[:topk]
    rows, classes = order // scores.shape[1], order % scores.shape[1]
    chosen = zip(rows.tolist(), classes.tolist(), scores[rows, classes].tolist())
    return [pair for pair in chosen if pair[2] > score_thresh]


def plain_anchors(pred_logits, pred_quality, *, alpha, score_thresh, topk):
    best = joint_scores(pred_logits, pred_quality, alpha)[0].amax(dim=1)
    rows = set(best.sort(descending=True, stable=True).indices[:topk].tolist())
    options = {"alpha": alpha, "score_thresh": score_thresh, "topk": None}
    pairs = plain_pairs(pred_logits, pred_quality, **options)
    return [pair for pair in pairs if pair[0] in rows]


PLAIN = {"pairs": plain_pairs, "anchors": plain_anchors}


def logits(rows, classes, *, mean, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(rows, classes, generator=generator) * 2 + mean
    q = torch.randn(rows, 1, generator=generator) * 3
    return c.to(dtype), q.to(dtype)


def as_triples(found):
    return list(zip(found.rows.tolist(), found.classes.tolist(), found.scores.tolist()))


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("mean", (-9.0, -4.0, 0.0, 20.0))
@pytest.mark.parametrize("score_thresh", (0.0, 1.2278e-4, 0.05, 0.5, 0.9, 0.9999))
@pytest.mark.parametrize("alpha", (0.0, 0.3, 1.0))
def test_equal_to_scoring_all(rule, dtype, mean, score_thresh, alpha):
    """Few candidates, many, and scores that saturate; no pair near a threshold is lost."""
    pred = logits(200, 7, mean=mean, dtype=dtype)
    for topk in (1, 30, 5000):
        options = {"alpha": alpha, "score_thresh": score_thresh, "topk": topk}
        found = as_triples(CANDIDATE_RULES[rule](*pred, **options))
        assert sorted(found) == sorted(PLAIN[rule](*pred, **options))
        scores = [score for *_, score in found]
        assert scores == sorted(scores, reverse=True)


def test_half_precision_loses_no_logit_at_any_threshold():
    """All bf16 logits from -40 to 40, each with the threshold just below its own score."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    logits = bits.view(torch.bfloat16)
    logits = logits[(logits.float().abs() < 40) & (logits.float().abs() > 2**-6)]
    scores = joint_scores(logits, None, 0.0)[0].exp()
    lower = torch.nextafter(scores, torch.zeros(()))
    for logit, threshold in zip(logits[::7], lower[::7].tolist()):
        found = best_pairs(logit.view(1, 1), None, alpha=0.0, score_thresh=threshold, topk=1)
        assert len(found.rows) == 1, (logit, threshold)


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_what_is_not_a_number_is_no_candidate_and_takes_no_place(rule):
    c, q = logits(6, 1, mean=0.0)
    c[1], c[4], q[2] = torch.nan, torch.nan, torch.nan
    found = CANDIDATE_RULES[rule](c, q, alpha=0.3, score_thresh=0.0, topk=3)
    assert set(found.rows.tolist()) == {0, 3, 5} and found.scores.isfinite().all()


def test_a_level_makes_the_host_wait_twice():
    """To learn which logits, and then which scores, are above the threshold."""
    pred = logits(50, 3, mean=0.0)
    waits = host_waits(lambda: best_pairs(*pred, alpha=0.3, score_thresh=0.05, topk=20))
    assert waits == ["aten::nonzero", "aten::nonzero"]


def test_without_quality_branch():
    c, _ = logits(50, 3, mean=-2.0)
    options = {"alpha": 0.0, "score_thresh": 0.05, "topk": 20}
    assert as_triples(best_pairs(c, None, **options)) == plain_pairs(c, None, **options)


def test_equal_scores_come_in_the_order_of_rows_and_classes():
    found = best_pairs(torch.zeros(4, 2), None, alpha=0.0, score_thresh=0.05, topk=5)
    assert found.rows.tolist() == [0, 0, 1, 1, 2] and found.classes.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_a_score_of_exactly_the_threshold_is_not_enough(rule):
    c, q = torch.tensor([[-1.0]]), torch.tensor([[2.0]])
    score = joint_scores(c, q, 0.3)[0].exp().item()
    lower = torch.nextafter(torch.tensor(score), torch.tensor(0.0)).item()
    choose = CANDIDATE_RULES[rule]
    assert len(choose(c, q, alpha=0.3, score_thresh=score, topk=9).rows) == 0
    assert len(choose(c, q, alpha=0.3, score_thresh=lower, topk=9).rows) == 1


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
@pytest.mark.parametrize("score_thresh", (1.0, 1.5))
def test_no_score_exceeds_one(rule, score_thresh):
    c, q = logits(5, 3, mean=50.0)
    assert len(CANDIDATE_RULES[rule](c, q, alpha=0.3, score_thresh=score_thresh, topk=9).rows) == 0


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_a_level_without_anchors(rule):
    found = CANDIDATE_RULES[rule](
        torch.zeros(0, 3), torch.zeros(0, 1), alpha=0.3, score_thresh=0.05, topk=9
    )
    assert len(found.rows) == len(found.classes) == len(found.scores) == 0
