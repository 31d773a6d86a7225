"""Loss normalizers, averaged over processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from detectron2.utils import comm
from torch import Tensor


@dataclass(frozen=True)
class LossSums:
    """Unnormalized losses of a forward pass, and the counts that normalize them; fp32 scalars."""

    by_samples: dict[str, Tensor]  # normalized by the number of samples
    by_weight: dict[str, Tensor]  # normalized by the sum of the box weights
    num_samples: Tensor
    weight_sum: Tensor

    def __add__(self, other: LossSums) -> LossSums:
        return LossSums(
            {name: loss + other.by_samples[name] for name, loss in self.by_samples.items()},
            {name: loss + other.by_weight[name] for name, loss in self.by_weight.items()},
            self.num_samples + other.num_samples,
            self.weight_sum + other.weight_sum,
        )

    def cpu(self) -> LossSums:
        return LossSums(
            {name: loss.cpu() for name, loss in self.by_samples.items()},
            {name: loss.cpu() for name, loss in self.by_weight.items()},
            self.num_samples.cpu(),
            self.weight_sum.cpu(),
        )

    def divided_by(self, num_samples: Tensor, weight_sum: Tensor) -> dict[str, Tensor]:
        """Losses by name.

        The number of samples counts as 1 at least. The weight is not clamped; it is 0 only without
        any positive, and becomes 1.
        """
        num_samples = num_samples.clamp(min=1)
        weight_sum = weight_sum.where(weight_sum > 0, 1.0)
        return {
            **{name: loss / num_samples for name, loss in self.by_samples.items()},
            **{name: loss / weight_sum for name, loss in self.by_weight.items()},
        }


Normalizer = Callable[[LossSums], dict[str, Tensor]]


def normalize(
    sums: LossSums, *, num_samples: Tensor | None = None, num_micro_batches: int = 1
) -> dict[str, Tensor]:
    """Divide loss sums by the mean of their counts over all processes, by one all-reduce.

    Every process must call it. The counts carry no gradient.

    Args:
        sums: of one micro-batch.
        num_samples: of all micro-batches of this process; default: of ``sums``.
        num_micro_batches: each is divided by its own weight and counts for its share of the batch.

    Returns:
        Losses by name, attached to the graph.
    """
    if num_samples is None:
        num_samples = sums.num_samples
    counts = torch.stack((num_samples, sums.weight_sum)).detach()
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(counts)
        counts /= comm.get_world_size()
    return sums.divided_by(counts[0], counts[1] * num_micro_batches)


class LossAccumulator:
    """A normalizer that only adds up, to normalize once after several forward passes."""

    def __init__(self) -> None:
        self.total: LossSums | None = None

    def __call__(self, sums: LossSums) -> dict[str, Tensor]:
        self.total = sums if self.total is None else self.total + sums
        return {**sums.by_samples, **sums.by_weight}
