"""Memory-efficient sums of losses over very many rows.

A loss of many operators keeps a tensor of all rows for each of them until the backward pass. Here
the gradient of a chunk of rows is taken at once, so that no more than the gradient stays.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements of the first tensor in a chunk: on CPU few enough for a cache, on a GPU so many that
# launching the kernels takes no time.
_CPU_CHUNK, _GPU_CHUNK = 1 << 19, 1 << 24


def chunked_sum(loss: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``loss(*inputs).sum()``, of a loss to which each row adds by itself.

    Args:
        loss: of the same rows of all inputs, of any shape, in fp32 or better.
        inputs: with as many rows each, (rows, ...).

    Returns:
        A scalar attached to the graph. Its gradient can't be differentiated again.
    """
    return _ChunkedSum.apply(loss, *inputs)


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.needs_grad = needs_grad = ctx.needs_input_grad[1:]
        chunks = list(_chunks(inputs[0]))
        gradients = [
            x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))
            for x, needed in zip(inputs, needs_grad)
            if needed and len(chunks) > 1
        ]
        sums = []
        for rows in chunks:
            leaves = [_detached_leaf(x[rows], needed) for x, needed in zip(inputs, needs_grad)]
            with torch.set_grad_enabled(any(needs_grad)):
                total = loss(*leaves).sum()
            sums.append(total.detach())
            if any(needs_grad):
                trained = [x for x, needed in zip(leaves, needs_grad) if needed]
                chunk_gradients = torch.autograd.grad(total, trained, materialize_grads=True)
                gradients = gradients or list(chunk_gradients)  # of the only chunk
                for gradient, chunk_gradient in zip(gradients, chunk_gradients):
                    if gradient is not chunk_gradient:
                        gradient[rows] = chunk_gradient
        ctx.save_for_backward(*gradients)
        return torch.stack(sums).sum() if len(sums) > 1 else sums[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = iter(ctx.saved_tensors)
        return None, *(next(gradients) * grad if needed else None for needed in ctx.needs_grad)


def _detached_leaf(x: Tensor, needs_grad: bool) -> Tensor:
    """Detach an input; its gradient is taken in fp32 or better, as it may be scaled only later."""
    if not needs_grad:
        return x
    return x.detach().to(torch.promote_types(x.dtype, torch.float32)).requires_grad_()


def _chunks(x: Tensor) -> Iterator[slice]:
    """Rows of each chunk; an empty tensor is one chunk."""
    elements = _CPU_CHUNK if x.is_cpu else _GPU_CHUNK
    step = max(elements // max(x[:1].numel(), 1), 1)
    for start in range(0, max(len(x), 1), step):
        yield slice(start, start + step)
