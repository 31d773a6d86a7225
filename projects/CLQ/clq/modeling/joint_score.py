"""The joint score: the one place where class probability and localization quality meet."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Above this quality logit expm1 cancels, and log(1 - s) follows its asymptote.
_SATURATED_QUALITY = 15.0


def log_joint_scores(pred_logits: Tensor, pred_quality: Tensor | None, alpha: float) -> Tensor:
    """Log p alone, with the arguments of :func:`joint_scores`, for ranking and inference."""
    c = pred_logits.to(torch.promote_types(pred_logits.dtype, torch.float32))
    if alpha == 0 or pred_quality is None:
        return F.logsigmoid(c)
    return F.logsigmoid(c) + alpha * F.logsigmoid(pred_quality.to(c.dtype))


def joint_scores(
    pred_logits: Tensor, pred_quality: Tensor | None, alpha: float
) -> tuple[Tensor, Tensor]:
    """Joint score p = sigmoid(c) * sigmoid(q)^alpha, as log p and log(1 - p).

    Both halves are computed in log space and at least in fp32, because log p alone loses 1 - p
    where p is near 1; the pair stays finite and right-signed in value and gradient for any
    logits that a network in half precision can emit.

    Args:
        pred_logits: class logits c, (..., K).
        pred_quality: quality logits q, (..., 1); None for a detector without quality branch.
        alpha: exponent of the quality; 0 leaves the class probability alone.

    Returns:
        log p and log(1 - p), each (..., K).

    Source: arXiv 2309.13269, joint representation of classification and localization quality.
    """
    c = pred_logits.to(torch.promote_types(pred_logits.dtype, torch.float32))
    if alpha == 0 or pred_quality is None:
        return F.logsigmoid(c), F.logsigmoid(-c)
    q = pred_quality.to(c.dtype)
    log_s = alpha * F.logsigmoid(q)  # (..., 1), s = sigmoid(q)^alpha
    log_sigmoid_c = F.logsigmoid(c)
    log_p = log_sigmoid_c + log_s
    # Below, each branch of a `where` is fed a harmless value where the other one is taken, so that
    # its gradient is 0 there and never 0 * inf.
    saturated = q >= _SATURATED_QUALITY
    log_1ms = torch.where(
        saturated,
        math.log(alpha) + F.logsigmoid(-q),
        torch.log(-torch.expm1(log_s.masked_fill(saturated, -1.0))),
    )
    # 1 - p = (1 - s) + s (1 - sigmoid(c)) is exact for large p, log1p for small p.
    is_large = log_p >= -math.log(2)
    log_1mp = torch.where(
        is_large,
        # Read where c > 0, and there the difference is exact: log(1 - sigmoid(c)).
        torch.logaddexp(log_1ms, log_s + (log_sigmoid_c - c)),
        torch.log1p(-log_p.masked_fill(is_large, -1.0).exp()),
    )
    return log_p, log_1mp
