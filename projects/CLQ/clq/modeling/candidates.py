"""What NMS chooses from: the best predictions of a level, found without scoring all of them.

The score of an anchor and class is never above the class probability. So a look at the class
logits leaves few pairs, and only these are scored.

Letters: R anchors of a level, K classes, Q candidates.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from .joint_score import joint_scores

__all__ = ["CANDIDATE_RULES", "Candidates", "best_anchors", "best_pairs"]

# How far below its bound a logit is let pass, relative to it and at least; bf16 rounds by less.
_SLACK = 1 / 64


class Candidates(NamedTuple):
    """Pairs of an anchor and a class, best first."""

    rows: Tensor  # (Q,), of the anchor
    classes: Tensor  # (Q,)
    scores: Tensor  # (Q,), fp32 or better


def best_pairs(
    pred_logits: Tensor,
    pred_quality: Tensor | None,
    *,
    alpha: float,
    score_thresh: float,
    topk: int | None,
) -> Candidates:
    """The best pairs of an anchor and a class, as Detectron2 chooses them.

    Args:
        pred_logits: class logits of a level, (R, K).
        pred_quality: quality logits, (R, 1), or None without quality branch.
        alpha: exponent of the quality in the score.
        score_thresh: score that a candidate must exceed.
        topk: most candidates; None keeps all. At equal log scores the lower row and class comes
            first.
    """
    num_classes = pred_logits.shape[1]
    logits = pred_logits.flatten()  # (R*K,)
    pairs = (logits > _least_logit(score_thresh)).nonzero().squeeze(1)
    quality = None if pred_quality is None else pred_quality[pairs // num_classes]  # (Q, 1)
    log_scores, _ = joint_scores(logits[pairs].unsqueeze(1), quality, alpha)
    passes = (log_scores.squeeze(1).exp() > score_thresh).nonzero().squeeze(1)
    log_scores, order = log_scores[passes, 0].sort(descending=True, stable=True)
    best = pairs[passes[order[:topk]]]
    return Candidates(best // num_classes, best % num_classes, log_scores[:topk].exp())


def best_anchors(
    pred_logits: Tensor,
    pred_quality: Tensor | None,
    *,
    alpha: float,
    score_thresh: float,
    topk: int,
) -> Candidates:
    """All classes of the best anchors by their best class, as the reference chooses them.

    Arguments are those of :func:`best_pairs`, with ``topk`` anchors.
    """
    log_scores, _ = joint_scores(pred_logits.amax(dim=1, keepdim=True), pred_quality, alpha)
    log_scores = log_scores.nan_to_num(nan=-math.inf)  # what is not a number takes no place
    rows = log_scores.squeeze(1).sort(descending=True, stable=True).indices[:topk]
    quality = None if pred_quality is None else pred_quality[rows]
    found = best_pairs(
        pred_logits[rows], quality, alpha=alpha, score_thresh=score_thresh, topk=None
    )
    return found._replace(rows=rows[found.rows])


# Of MODEL.CLQ.CANDIDATE_RULE_TEST.
CANDIDATE_RULES: dict[str, Callable[..., Candidates]] = {
    "pairs": best_pairs,
    "anchors": best_anchors,
}


def _least_logit(probability: float) -> float:
    """Below that of any probability that is higher; infinite where none is, or each."""
    if not 0 < probability < 1:
        return math.copysign(math.inf, probability - 0.5)
    logit = math.log(probability / (1 - probability))
    return logit - _SLACK * max(abs(logit), 1)
