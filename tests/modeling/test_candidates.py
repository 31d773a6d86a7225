"""The choice of candidates against one that scores every pair of an anchor and a class."""

import math

import pytest
import torch

from clq.modeling import joint_scores
from clq.modeling.candidates import CANDIDATE_RULES
from reference.devices import current
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
    return c.to(current(), dtype), q.to(current(), dtype)


def as_triples(found):
    """Row, class and score of what is chosen, which comes first."""
    count = int(found.is_chosen.sum())
    assert found.is_chosen[:count].all()
    parts = (found.rows, found.classes, found.scores)
    return list(zip(*(part[:count].tolist() for part in parts)))


def choose(rule, pred_logits, pred_quality, **options):
    """Row, class and score of the candidates of one level."""
    sizes = [len(pred_logits)]
    return as_triples(CANDIDATE_RULES[rule](pred_logits, pred_quality, sizes=sizes, **options))


@pytest.mark.usefixtures("device")
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
        found = choose(rule, *pred, **options)
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
        options = {"alpha": 0.0, "score_thresh": threshold, "topk": 1}
        assert len(choose("pairs", logit.view(1, 1), None, **options)) == 1, (logit, threshold)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_nan_is_no_candidate_and_takes_no_place(rule):
    c, q = logits(6, 1, mean=0.0)
    c[1], c[4], q[2] = torch.nan, torch.nan, torch.nan
    rows, _, scores = zip(*choose(rule, c, q, alpha=0.3, score_thresh=0.0, topk=3))
    assert set(rows) == {0, 3, 5} and all(map(math.isfinite, scores))


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_one_synchronization_for_all_levels(rule):
    """To learn how many logits are above the threshold."""
    pred = logits(50, 3, mean=0.0)
    options = {"sizes": [30, 15, 5], "alpha": 0.3, "score_thresh": 0.05, "topk": 20}
    assert host_waits(lambda: CANDIDATE_RULES[rule](*pred, **options)) == ["aten::nonzero"]


SIZES = (60, 0, 24, 6, 1)


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
@pytest.mark.parametrize("branch", ("quality", "no quality"))
@pytest.mark.parametrize("score_thresh", (0.0, 0.05, 0.4, 1.0))
@pytest.mark.parametrize("topk", (1, 7, 1000))
def test_all_levels_at_once_are_the_levels_one_by_one(rule, branch, score_thresh, topk):
    """To the last bit and in the same order; coarse logits, so that many scores are equal."""
    c, q = logits(sum(SIZES), 4, mean=-1.0, dtype=torch.bfloat16)
    c, q = c.float().round(), q.float().round()
    c[3, 1], c[70, 0], q[61] = torch.nan, -torch.inf, torch.nan
    quality = q if branch == "quality" else None
    options = {"alpha": 0.3, "score_thresh": score_thresh, "topk": topk}
    found = as_triples(CANDIDATE_RULES[rule](c, quality, sizes=SIZES, **options))
    expected, start = [], 0
    for size in SIZES:
        level = slice(start, start + size)
        rows = plain_rule(rule, c[level], None if quality is None else q[level], **options)
        expected += [(start + row, k, score) for row, k, score in rows]
        start += size
    assert found == expected


def plain_rule(rule, pred_logits, pred_quality, *, alpha, score_thresh, topk):
    """One level of one rule by Python's sort, which is stable."""
    scored = joint_scores(pred_logits, pred_quality, alpha)[0]
    best = joint_scores(pred_logits.amax(dim=1, keepdim=True), pred_quality, alpha)[0]
    rows = list(range(len(pred_logits)))
    if rule == "anchors":
        by_best = best.nan_to_num(nan=-math.inf).squeeze(1).tolist()
        rows = sorted(rows, key=lambda row: -by_best[row])[:topk]
    pairs = [(row, k) for row in rows for k in range(pred_logits.shape[1])]
    chosen = [(row, k, scored[row, k]) for row, k in pairs if scored[row, k].exp() > score_thresh]
    chosen.sort(key=lambda pair: -pair[2].item())
    chosen = chosen if rule == "anchors" else chosen[:topk]
    return [(row, k, log_score.exp().item()) for row, k, log_score in chosen]


def test_without_quality_branch():
    c, _ = logits(50, 3, mean=-2.0)
    options = {"alpha": 0.0, "score_thresh": 0.05, "topk": 20}
    assert choose("pairs", c, None, **options) == plain_pairs(c, None, **options)


def test_equal_scores_come_in_the_order_of_rows_and_classes():
    found = choose("pairs", torch.zeros(4, 2), None, alpha=0.0, score_thresh=0.05, topk=5)
    assert [pair[:2] for pair in found] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_a_score_of_exactly_the_threshold_is_not_enough(rule):
    c, q = torch.tensor([[-1.0]]), torch.tensor([[2.0]])
    score = joint_scores(c, q, 0.3)[0].exp().item()
    lower = torch.nextafter(torch.tensor(score), torch.tensor(0.0)).item()
    assert len(choose(rule, c, q, alpha=0.3, score_thresh=score, topk=9)) == 0
    assert len(choose(rule, c, q, alpha=0.3, score_thresh=lower, topk=9)) == 1


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
@pytest.mark.parametrize("score_thresh", (1.0, 1.5))
def test_no_score_exceeds_one(rule, score_thresh):
    c, q = logits(5, 3, mean=50.0)
    assert not choose(rule, c, q, alpha=0.3, score_thresh=score_thresh, topk=9)


@pytest.mark.parametrize("rule", CANDIDATE_RULES)
def test_no_anchors_at_all(rule):
    c, q = torch.zeros(0, 3), torch.zeros(0, 1)
    assert not choose(rule, c, q, alpha=0.3, score_thresh=0.05, topk=9)
