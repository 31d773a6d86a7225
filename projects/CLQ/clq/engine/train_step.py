"""One training step: parts of a batch through the network, losses divided over all processes."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.loss_normalizer import LossSums, Normalizers, Total, dividing
from .nonfinite import Part, all_finite, stop_on_nonfinite

__all__ = ["NORMALIZERS", "TrainingStep", "distribute", "share_buffers"]

Batch = list[dict[str, Any]]

# What the box losses of a batch that is taken in parts are divided by: the weight of the part, or
# that of the whole batch, which takes one more forward pass.
NORMALIZERS = ("micro_batch", "accumulated")


class TrainingStep(SimpleTrainer):
    """Detectron2's trainer of single steps for any device, precision and number of processes.

    Each forward pass makes the processes exchange one tensor, and no more than that: counts that
    divide the losses, the losses themselves for the log, and flags of the trainer. Where a loss is
    not finite, all processes stop before the weights change.

    Attributes:
        raised: how many processes raise each flag, as of the latest step.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Batch],
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None = None,
        micro_batches: int = 1,
        normalizers: str = "micro_batch",
        flags: Callable[[], Sequence[bool]] = tuple,
        folder: Path | None = None,
    ) -> None:
        """
        Args:
            model: gives a dict of losses for what its ``prepare`` makes of a batch, by
                :func:`clq.modeling.loss_normalizer.divide`.
            data_loader: endless batches of this process.
            optimizer: of the model's parameters.
            precision: what autocast computes the network in; None is full precision.
            micro_batches: parts of a batch that pass the network one after the other; it must
                divide the batch.
            normalizers: one of ``NORMALIZERS``.
            flags: what this process has to tell the others, asked before each step.
            folder: for a batch whose loss is not finite; None keeps none.
        """
        super().__init__(model, data_loader, optimizer)
        assert normalizers in NORMALIZERS, normalizers
        self._micro_batches = micro_batches
        self._looks_ahead = micro_batches > 1 and normalizers == "accumulated"
        self._flags = flags
        self._folder = folder
        self.raised: list[int] = []
        device = next(model.parameters()).device.type
        self._autocast = (
            contextlib.nullcontext()
            if precision is None
            else torch.autocast(device, dtype=precision)
        )
        # bf16 has the range of fp32, so that only fp16 needs its gradients scaled.
        self.grad_scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)

    def run_step(self) -> None:
        assert self.model.training, "the model was left in evaluation mode"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        parts = [batch[i :: self._micro_batches] for i in range(self._micro_batches)]
        prepared = [self._network.prepare(part) for part in parts]
        exchange = _Exchange(self._flags(), self._micro_batches)
        self.optimizer.zero_grad()
        if self._looks_ahead:
            exchange.settle(self._total(prepared))
        elif len(parts) > 1:
            counts = [targets.num_samples for _, targets in prepared]
            exchange.num_samples = torch.stack(counts).sum()
        with dividing(exchange):
            own = [self._backward(part, is_last=part is prepared[-1]) for part in prepared]
        self._conclude(exchange, list(zip(own, parts)), data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    @property
    def _network(self) -> Any:
        """The model without what averages its gradients."""
        return getattr(self.model, "module", self.model)

    def _total(self, parts: Sequence[tuple[Batch, Any]]) -> LossSums:
        """Losses and counts of the whole batch, without gradients."""
        total = Total()
        with torch.no_grad(), dividing(total), self._autocast:
            for part in parts:
                self._network(*part)
        assert total.sums is not None
        return total.sums

    def _backward(self, part: tuple[Batch, Any], *, is_last: bool) -> dict[str, Tensor]:
        """Add a part's gradients, which the processes average with the last; its losses."""
        with contextlib.ExitStack() as stack:
            if not is_last and isinstance(self.model, DistributedDataParallel):
                stack.enter_context(self.model.no_sync())
            with self._autocast:
                losses = self.model(*part)
            self.grad_scaler.scale(sum(losses.values())).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _conclude(self, exchange: "_Exchange", own: Sequence[Part], data_time: float) -> None:
        """Log the losses, unless one is not finite; here the host waits for them.

        A GPU has been given all the work of forward and backward pass by then.
        """
        means = torch.stack(list(exchange.losses.values()))
        is_finite = all_finite(losses for losses, _ in own).to(means)
        values = torch.cat((means, is_finite.view(1), exchange.raised)).tolist()
        losses = dict(zip(exchange.losses, values))
        own_are_finite, *raised = map(int, values[len(losses) :])
        self.raised = raised
        storage = get_event_storage()
        if not (own_are_finite and math.isfinite(sum(losses.values()))):
            stop_on_nonfinite(losses, own, self._network, storage.iter, self._folder)
        if comm.is_main_process():
            storage.put_scalar("data_time", data_time)
            storage.put_scalar("total_loss", sum(losses.values()))
            if len(losses) > 1:
                storage.put_scalars(**losses)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:  # empty where the run before did not scale
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


class _Exchange:
    """The rule that divides the losses of a step, and what it learns from all processes.

    Attributes:
        num_samples: of all parts of this process's batch, where they are counted before.
        losses: means over processes, added up over the parts.
        raised: how many processes raise each flag, (F,).
    """

    def __init__(self, flags: Sequence[bool], num_parts: int) -> None:
        self.num_samples: Tensor | None = None
        self.losses: dict[str, Tensor] = {}
        self.raised: Tensor
        self._flags = flags
        self._num_parts = num_parts
        self._settled: Normalizers | None = None

    def settle(self, total: LossSums) -> None:
        """Divide every part by what the whole batch counts."""
        mean, self.raised = total.over_processes(self._flags)
        self._settled = mean.normalizers()
        self.losses = mean.divided(self._settled)

    def __call__(self, sums: LossSums) -> dict[str, Tensor]:
        return sums.divided(self._settled or self._exchanged(sums))

    def _exchanged(self, sums: LossSums) -> Normalizers:
        """Divisors of one part: its own weight counts as a share of the batch's."""
        if self.num_samples is not None:
            sums = dataclasses.replace(sums, num_samples=self.num_samples.to(sums.num_samples))
        mean, self.raised = sums.over_processes(self._flags)
        samples, weight = mean.normalizers()
        normalizers = Normalizers(samples, weight * self._num_parts)
        for name, loss in mean.divided(normalizers).items():
            self.losses[name] = self.losses.get(name, 0) + loss
        return normalizers


def distribute(model: nn.Module) -> nn.Module:
    """Average gradients over the processes, if there is more than one."""
    if comm.get_world_size() == 1:
        return model
    on_cuda = next(model.parameters()).is_cuda
    device_ids = [torch.cuda.current_device()] if on_cuda else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)


def share_buffers(model: nn.Module) -> None:
    """Take over the first process's buffers, which are those that a checkpoint holds.

    Each process has batch-norm statistics of its own images. All processes must call it.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
