"""The joint score: the one place where class probability and localization quality meet."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# From this quality logit on, log(1 - s) is taken from its asymptote, where expm1 cancels.
_SATURATED_QUALITY = 15.0


def joint_scores(pred_logits: Tensor, pred_quality: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Joint score p = sigmoid(c) * sigmoid(q)^alpha, as log p and log(1 - p).

    Both halves are computed in log space and at least in fp32, because log p alone loses 1 - p
    where p is near 1; the pair stays finite and right-signed in value and gradient for any
    logits that a network in half precision can emit.

    Args:
        pred_logits: class logits c, (..., K).
        pred_quality: quality logits q, (..., 1).
        alpha: exponent of the quality; 0 leaves the class probability alone.

    Returns:
        log p and log(1 - p), each (..., K).

    Source: arXiv 2309.13269, joint representation of classification and localization quality.
    """
    c, q = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (pred_logits, pred_quality))
    if alpha == 0:
        return F.logsigmoid(c), F.logsigmoid(-c)
    log_s = alpha * F.logsigmoid(q)  # (..., 1), s = sigmoid(q)^alpha
    saturated = q >= _SATURATED_QUALITY
    # The branch not taken is fed a harmless value, so that its gradient is 0 and never 0 * inf.
    log_1ms = torch.where(
        saturated,
        math.log(alpha) + F.logsigmoid(-q),
        torch.log(-torch.expm1(log_s.masked_fill(saturated, -1.0))),
    )
    log_p = F.logsigmoid(c) + log_s
    # 1 - p = (1 - s) + s (1 - sigmoid(c))
    log_1mp = torch.logaddexp(log_1ms, log_s + F.logsigmoid(-c))
    return log_p, log_1mp
