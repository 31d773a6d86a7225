"""Loss normalizers, over all processes and parts of the batch.

The criterion gives sums and counts of one forward pass, and :func:`divide` divides them by the
rule of whoever runs the step. So the criterion knows nothing of processes, of accumulation or of
validation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

import torch
from detectron2.utils import comm
from torch import Tensor

__all__ = ["LossSums", "Normalizers", "Total", "divide", "dividing"]


class Normalizers(NamedTuple):
    """Divisors of the losses; positive scalars."""

    samples: Tensor
    weight: Tensor


@dataclass(frozen=True)
class LossSums:
    """Losses of a forward pass, summed over its anchors, and what they are to be divided by.

    All are fp32 scalars.
    """

    by_samples: dict[str, Tensor]  # losses that are divided by the number of samples
    by_weight: dict[str, Tensor]  # losses that are divided by the sum of the box weights
    num_samples: Tensor
    weight_sum: Tensor

    def __add__(self, other: LossSums) -> LossSums:
        """Sums over both passes, detached."""
        return self._like(torch.unbind(self._stacked() + other._stacked()))

    def detached(self) -> LossSums:
        """The same values without their graph."""
        return self._like(torch.unbind(self._stacked()))

    def over_processes(self, flags: Sequence[bool] = ()) -> tuple[LossSums, Tensor]:
        """Mean over all processes, by one all-reduce, which every process must join.

        A loss that is not finite in one process is not finite in the mean.

        Args:
            flags: what this process has to tell, F of them, as many in each process.

        Returns:
            The means, detached, and how many processes raise each flag, (F,).
        """
        stacked = self._stacked()
        own = [stacked.new_full((1,), float(flag)) for flag in flags]  # a copy would wait
        message = torch.cat((stacked, *own))
        world_size = comm.get_world_size()
        if world_size > 1:
            torch.distributed.all_reduce(message)
            message[: len(stacked)] /= world_size
        sums, raised = message.split((len(stacked), len(message) - len(stacked)))
        return self._like(torch.unbind(sums)), raised

    def normalizers(self) -> Normalizers:
        """At least one sample; the weight may lie below 1 and is not clamped.

        A weight of 0 means that there is no positive at all, and becomes 1.
        """
        weight = self.weight_sum.where(self.weight_sum > 0, 1.0)
        return Normalizers(self.num_samples.clamp(min=1), weight)

    def divided(self, normalizers: Normalizers) -> dict[str, Tensor]:
        """The losses by name, in the graph where the sums are."""
        return {
            **{name: loss / normalizers.samples for name, loss in self.by_samples.items()},
            **{name: loss / normalizers.weight for name, loss in self.by_weight.items()},
        }

    def _stacked(self) -> Tensor:
        losses = (*self.by_samples.values(), *self.by_weight.values())
        return torch.stack((self.num_samples, self.weight_sum, *losses)).detach()

    def _like(self, scalars: Sequence[Tensor]) -> LossSums:
        """The same names with other values, in the order of :meth:`_stacked`."""
        num_samples, weight_sum, *losses = scalars
        by_samples = dict(zip(self.by_samples, losses))
        by_weight = dict(zip(self.by_weight, losses[len(by_samples) :]))
        return LossSums(by_samples, by_weight, num_samples, weight_sum)


Rule = Callable[[LossSums], dict[str, Tensor]]


def over_processes(sums: LossSums) -> dict[str, Tensor]:
    """The rule where no other is set: divide by the means over all processes."""
    mean, _ = sums.over_processes()
    return sums.divided(mean.normalizers())


class Total:
    """The rule that only adds up, detached, over any number of forward passes."""

    def __init__(self) -> None:
        self.sums: LossSums | None = None

    def __call__(self, sums: LossSums) -> dict[str, Tensor]:
        self.sums = sums.detached() if self.sums is None else self.sums + sums
        return {**sums.by_samples, **sums.by_weight}


_rule: ContextVar[Rule] = ContextVar("rule", default=over_processes)


def divide(sums: LossSums) -> dict[str, Tensor]:
    """The losses by name, divided by the rule in force."""
    return _rule.get()(sums)


@contextlib.contextmanager
def dividing(rule: Rule) -> Iterator[None]:
    """Let a rule divide the losses of every forward pass inside."""
    token = _rule.set(rule)
    try:
        yield
    finally:
        _rule.reset(token)
