"""Sums of losses over very many rows, part by part.

A loss of many steps keeps a tensor of all rows for each of them until the backward pass. Here the
gradient of a part is taken at once, so that no more than the gradient stays.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["sum_in_parts"]

# Elements of the first tensor in a part: on CPU so few that what comes of them fits a cache, on a
# GPU so many that starting its kernels takes no time.
_CPU_PART, _GPU_PART = 1 << 19, 1 << 24


def sum_in_parts(loss: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``loss(*inputs).sum()``, of a loss to which each row adds by itself.

    Args:
        loss: of the same rows of all inputs, of any shape, in fp32 or better.
        inputs: with as many rows each, (rows, ...).

    Returns:
        A scalar attached to the graph. Its gradient can't be differentiated again.
    """
    return _SumInParts.apply(loss, *inputs)


class _SumInParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.wanted = wanted = ctx.needs_input_grad[1:]
        parts = list(_parts(inputs[0]))
        gradients = [
            x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))
            for x, want in zip(inputs, wanted)
            if want and len(parts) > 1
        ]
        sums = []
        for rows in parts:
            part = [_leaf(x[rows], want) for x, want in zip(inputs, wanted)]
            with torch.set_grad_enabled(any(wanted)):
                total = loss(*part).sum()
            sums.append(total.detach())
            if any(wanted):
                leaves = [x for x, want in zip(part, wanted) if want]
                found = torch.autograd.grad(total, leaves, materialize_grads=True)
                gradients = gradients or list(found)  # of the only part
                for gradient, of_part in zip(gradients, found):
                    if gradient is not of_part:
                        gradient[rows] = of_part
        ctx.save_for_backward(*gradients)
        return torch.stack(sums).sum() if len(sums) > 1 else sums[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = iter(ctx.saved_tensors)
        return None, *(next(gradients) * grad if want else None for want in ctx.wanted)


def _leaf(x: Tensor, wants_gradient: bool) -> Tensor:
    """A tensor whose gradient is taken, in fp32 or better, as it may be scaled only later."""
    if not wants_gradient:
        return x
    return x.detach().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()


def _parts(x: Tensor) -> Iterator[slice]:
    """Rows of a tensor, part by part; an empty one is a part too."""
    elements = _CPU_PART if x.is_cpu else _GPU_PART
    step = max(elements // max(x[:1].numel(), 1), 1)
    for start in range(0, max(len(x), 1), step):
        yield slice(start, start + step)
