"""Candidates for NMS: the best predictions of each level, found without scoring all of them.

The score of an anchor and class is never above the class probability, so that a threshold on the
class logits leaves few pairs to score. All levels are scored at once: the host synchronizes once,
to learn the number of pairs.

Letters: R anchors over all levels of an image, K classes, L levels, Q pairs.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .joint_score import log_joint_scores
from .nearest_anchors import row_of

# Margin below the bound of a logit, relative to it and absolute; bf16 rounds by less.
_MARGIN = 1 / 64


class Candidates(NamedTuple):
    """Pairs of an anchor and a class: the chosen ones, level by level and best first, then others.

    Their number is known on the device alone; Q is no more than may be chosen at most.
    """

    rows: Tensor  # (Q,), of the anchor
    classes: Tensor  # (Q,)
    scores: Tensor  # (Q,), fp32 or better
    is_chosen: Tensor  # (Q,)


def best_pairs(
    pred_logits: Tensor,
    pred_quality: Tensor | None,
    *,
    sizes: Sequence[int],
    alpha: float,
    score_thresh: float,
    topk: int,
) -> Candidates:
    """Choose the best pairs of an anchor and a class, as Detectron2 does.

    Args:
        pred_logits: class logits of all levels, (R, K).
        pred_quality: quality logits, (R, 1), or None without quality branch.
        sizes: anchors of each level.
        alpha: exponent of the quality in the score.
        score_thresh: score that a candidate must exceed.
        topk: most candidates of a level. At equal log scores the lower row and class comes first.
    """
    num_classes = pred_logits.shape[1]
    pairs = (pred_logits > _logit_lower_bound(score_thresh)).flatten().nonzero().squeeze(1)  # (Q,)
    rows, classes = pairs // num_classes, pairs % num_classes
    quality = None if pred_quality is None else pred_quality[rows]  # (Q, 1)
    logits = pred_logits[rows, classes].unsqueeze(1)  # (Q, 1)
    log_scores = log_joint_scores(logits, quality, alpha).squeeze(1)
    passes = log_scores.exp() > score_thresh
    order, ranks = _ranked(log_scores.masked_fill(~passes, -torch.inf), rows, sizes)
    is_chosen = passes[order] & (ranks < topk)
    # Those of a level that are not chosen are its last, so that the chosen ones stay in order.
    is_other = (~is_chosen).to(torch.int8)  # which any device sorts
    first = is_other.sort(stable=True).indices[: topk * len(sizes)]
    best = order[first]
    return Candidates(rows[best], classes[best], log_scores[best].exp(), is_chosen[first])


def best_anchors(
    pred_logits: Tensor,
    pred_quality: Tensor | None,
    *,
    sizes: Sequence[int],
    alpha: float,
    score_thresh: float,
    topk: int,
) -> Candidates:
    """Choose all classes of the best anchors by their best class, as the reference does.

    Arguments are those of :func:`best_pairs`, with ``topk`` anchors of a level.
    """
    log_scores = log_joint_scores(pred_logits.amax(dim=1, keepdim=True), pred_quality, alpha)
    log_scores = log_scores.nan_to_num(nan=-math.inf)  # what is not a number takes no place
    rows = torch.arange(len(pred_logits), device=pred_logits.device)
    order, ranks = _ranked(log_scores.squeeze(1), rows, sizes)
    # The anchors keep their rank, which decides between equal scores; the others can't pass.
    found = best_pairs(
        pred_logits[order].masked_fill_((ranks >= topk).unsqueeze(1), -math.inf),
        None if pred_quality is None else pred_quality[order],
        sizes=sizes,
        alpha=alpha,
        score_thresh=score_thresh,
        topk=topk * pred_logits.shape[1],
    )
    return found._replace(rows=order[found.rows])


def _ranked(log_scores: Tensor, rows: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Order by level and falling score, then by place, and ranks within the level from 0, (Q,)."""
    order = log_scores.sort(descending=True, stable=True).indices
    ends = row_of(rows, list(itertools.accumulate(sizes)))  # (L,)
    levels, by_level = torch.searchsorted(ends, rows[order], right=True).sort(stable=True)
    ranks = torch.arange(len(levels), device=levels.device) - torch.searchsorted(levels, levels)
    return order[by_level], ranks


# Of MODEL.CLQ.CANDIDATE_RULE_TEST.
CANDIDATE_RULES: dict[str, Callable[..., Candidates]] = {
    "pairs": best_pairs,
    "anchors": best_anchors,
}


def _logit_lower_bound(probability: float) -> float:
    """A logit below logit(p), with a margin for bf16 rounding; infinite outside (0, 1)."""
    if not 0 < probability < 1:
        return math.copysign(math.inf, probability - 0.5)
    logit = math.log(probability / (1 - probability))
    return logit - _MARGIN * max(abs(logit), 1)
