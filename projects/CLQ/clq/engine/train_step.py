"""Training step with AMP, gradient accumulation and a stop where a loss is not finite."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.loss_normalizer import Normalizer, normalize
from ..utils.atomic_write import open_atomically

Batch = list[dict[str, Any]]
Losses = dict[str, Tensor]  # scalars by name


class TrainingStep(SimpleTrainer):
    """Detectron2's trainer of single steps for any device, precision and number of processes.

    The processes exchange one small tensor in each forward pass, which normalizes the losses, and
    one after the last backward pass: losses for the log, and flags of the trainer. Where a loss is
    not finite, all processes stop before the weights change.

    Attributes:
        flag_counts: how many processes raise each flag, as of the latest step.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Batch],
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None = None,
        micro_batches: int = 1,
        flags: Callable[[], Sequence[bool]] = tuple,
        folder: Path | None = None,
    ) -> None:
        """
        Args:
            model: called as :class:`clq.modeling.CLQ`, after its ``prepare``.
            data_loader: endless batches of this process.
            optimizer: of the model's parameters.
            precision: what autocast computes the network in; None is full precision.
            micro_batches: parts of a batch that pass the network one after the other; it must
                divide the batch.
            flags: what this process has to tell the others, asked at the end of each step.
            folder: for a batch whose loss is not finite; None keeps none.
        """
        super().__init__(model, data_loader, optimizer)
        self._micro_batches = micro_batches
        self._flags = flags
        self._folder = folder
        self.flag_counts: list[int] = []
        device = next(model.parameters()).device.type
        self._autocast = torch.autocast(device, dtype=precision, enabled=precision is not None)
        # bf16 has the range of fp32, so that only fp16 needs its gradients scaled.
        self.grad_scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)

    def run_step(self) -> None:
        assert self.model.training, "the model was left in evaluation mode"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        micro_batches = [batch[i :: self._micro_batches] for i in range(self._micro_batches)]
        inputs = [self._network.prepare(micro_batch) for micro_batch in micro_batches]
        normalizer = functools.partial(
            normalize,
            num_samples=torch.stack([targets.num_samples for _, targets in inputs]).sum(),
            num_micro_batches=self._micro_batches,
        )
        self.optimizer.zero_grad()
        losses = [
            self._backward(images, targets, normalizer, is_last=targets is inputs[-1][1])
            for images, targets in inputs
        ]
        self._log(losses, micro_batches, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    @property
    def _network(self) -> Any:
        """The model without its DistributedDataParallel wrapper."""
        return getattr(self.model, "module", self.model)

    def _backward(
        self, images: Batch, targets: Any, normalizer: Normalizer, *, is_last: bool
    ) -> Losses:
        """Backward one micro-batch; gradients are all-reduced on the last. Returns its losses."""
        with contextlib.ExitStack() as stack:
            if not is_last and isinstance(self.model, DistributedDataParallel):
                stack.enter_context(self.model.no_sync())
            with self._autocast:
                losses = self.model(images, targets, normalizer)
            self.grad_scaler.scale(sum(losses.values())).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _log(
        self, losses: Sequence[Losses], micro_batches: Sequence[Batch], data_time: float
    ) -> None:
        """Log the losses, unless one is not finite."""
        means = self._reduce(losses)
        total = sum(means.values())
        storage = get_event_storage()
        if not math.isfinite(total):
            local = list(zip(losses, micro_batches))
            _stop_on_nonfinite(means, local, self._network, storage.iter, self._folder)
        if comm.is_main_process():
            storage.put_scalar("data_time", data_time)
            storage.put_scalar("total_loss", total)
            if len(means) > 1:
                storage.put_scalars(**means)

    def _reduce(self, losses: Sequence[Losses]) -> dict[str, float]:
        """Average the step's losses over processes, and count the flags, by one all-reduce.

        Here the host waits, when a GPU has been given all the work of the backward pass.
        """
        totals = torch.stack([torch.stack(list(each.values())) for each in losses]).sum(dim=0)
        # Filled on the device, as a copy from the host would wait.
        flags = [totals.new_full((1,), float(flag)) for flag in self._flags()]
        message = torch.cat((totals / comm.get_world_size(), *flags))
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(message)
        values = message.tolist()
        self.flag_counts = [int(count) for count in values[len(totals) :]]
        return dict(zip(losses[0], values))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:  # empty where the run before did not scale
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def _stop_on_nonfinite(
    losses: Mapping[str, float],
    local: Sequence[tuple[Losses, Batch]],
    model: nn.Module,
    iteration: int,
    folder: Path | None,
) -> NoReturn:
    """Dump the batch and weights when a loss is NaN or inf, and stop. All processes must call it.

    ``nonfinite_<iteration>.pth`` holds the losses, the batch as the model got it (``images``,
    ``gt_boxes`` in pixels and ``gt_classes``, ``file_names``) and the weights before the step; it
    loads with ``torch.load`` on any machine. The process whose own losses are not finite writes it.
    The error is the same in all processes; it names the losses, the images and the file.

    Args:
        losses: means over processes, by name.
        local: losses of each micro-batch of this process, and its images.
    """
    is_bad = [not torch.stack(list(own.values())).isfinite().all() for own, _ in local]
    report = _report(*local[is_bad.index(True)], model, iteration, folder) if any(is_bad) else ""
    reports = comm.all_gather(report)
    reports.append(f"({_listed(losses)})")  # a mean may overflow where each loss is finite
    raise FloatingPointError(
        f"the loss is not finite in iteration {iteration} {next(filter(None, reports))}; the "
        "weights of the last checkpoint are as they were: a lower SOLVER.BASE_LR often helps."
    )


def _report(
    losses: Losses, batch: Batch, model: nn.Module, iteration: int, folder: Path | None
) -> str:
    """Name the losses, the images and the file that holds them."""
    values = {name: float(loss) for name, loss in losses.items()}
    names = [str(sample.get("file_name", "?")) for sample in batch]
    text = f"({_listed(values)}), on the images {', '.join(names)}"
    if folder is None:
        return text
    instances = [sample["instances"] for sample in batch if "instances" in sample]
    content = {
        "iteration": iteration,
        "losses": values,
        "file_names": names,
        "images": [sample["image"].cpu() for sample in batch if "image" in sample],
        "gt_boxes": [gt.gt_boxes.tensor.cpu() for gt in instances],
        "gt_classes": [gt.gt_classes.cpu() for gt in instances],
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
    }
    rank = comm.get_rank()
    file = folder / f"nonfinite_{iteration:07d}{f'_rank{rank}' if rank else ''}.pth"
    try:
        with open_atomically(file) as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError):  # torch.save hides the former behind the latter
        return f"{text}; {file} can't be written"
    return f"{text}; {file} holds batch and weights"


def _listed(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in losses.items())


def wrap_ddp(model: nn.Module) -> nn.Module:
    """Average gradients over the processes, if there is more than one."""
    if comm.get_world_size() == 1:
        return model
    on_cuda = next(model.parameters()).is_cuda
    device_ids = [torch.cuda.current_device()] if on_cuda else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)


def broadcast_buffers(model: nn.Module) -> None:
    """Broadcast buffers from rank 0, the ones that a checkpoint holds. Collective call.

    Each process has batch-norm statistics of its own images.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
