"""Dump the batch and weights when a loss is NaN or inf."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from ..utils.atomic_write import open_atomically

__all__ = ["Part", "all_finite", "stop_on_nonfinite"]

# Losses by name, and the batch that gave them.
Part = tuple[dict[str, Tensor], list[dict[str, Any]]]


def all_finite(losses: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """Tell whether all of some losses, scalars by name, are finite; a scalar on their device."""
    return torch.stack([loss for named in losses for loss in named.values()]).isfinite().all()


def stop_on_nonfinite(
    losses: Mapping[str, float],
    own: Sequence[Part],
    model: nn.Module,
    iteration: int,
    folder: Path | None,
) -> NoReturn:
    """Save what is needed to look at a loss that is not finite, and stop all processes.

    ``nonfinite_<iteration>.pth`` holds the losses, the batch as the model got it (``images``,
    ``gt_boxes`` in pixels and ``gt_classes``, ``file_names``) and the weights before the step; it
    loads with ``torch.load`` on any machine. The process whose own losses are not finite writes it.

    Args:
        losses: means over processes, by name. If one of them is not finite, every process calls
            this, and all raise the same error.
        own: of this process.
        model: that gave the losses.
        iteration: of the training.
        folder: for the file; None writes none.

    Raises:
        FloatingPointError: naming the losses, the images and the file.
    """
    bad = next((part for part in own if not all_finite([part[0]])), None)
    reports = [_report(bad, model, iteration, folder) if bad else ""]
    if not math.isfinite(sum(losses.values())):
        reports = comm.all_gather(reports[0])
    reports.append(f"({_listed(losses)})")  # a mean may overflow where each loss is finite
    raise FloatingPointError(
        f"the loss is not finite in iteration {iteration} {next(filter(None, reports))}; the "
        "weights of the last checkpoint are as they were: a lower SOLVER.BASE_LR often helps."
    )


def _report(part: Part, model: nn.Module, iteration: int, folder: Path | None) -> str:
    """Name what is wrong with which images, and the file that holds them."""
    losses, batch = {name: float(loss) for name, loss in part[0].items()}, part[1]
    names = [str(sample.get("file_name", "?")) for sample in batch]
    text = f"({_listed(losses)}), on the images {', '.join(names)}"
    if folder is None:
        return text
    instances = [sample["instances"] for sample in batch if "instances" in sample]
    content = {
        "iteration": iteration,
        "losses": losses,
        "file_names": names,
        "images": [sample["image"].cpu() for sample in batch if "image" in sample],
        "gt_boxes": [gt.gt_boxes.tensor.cpu() for gt in instances],
        "gt_classes": [gt.gt_classes.cpu() for gt in instances],
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
    }
    rank = comm.get_rank()
    suffix = f"_rank{rank}" if rank else ""
    return f"{text}; {_keep(content, folder / f'nonfinite_{iteration:07d}{suffix}.pth')}"


def _listed(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in losses.items())


def _keep(content: dict[str, Any], file: Path) -> str:
    """Write a file, or say that it can't be written, as on a full disk."""
    try:
        with open_atomically(file) as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError):  # torch.save hides the former behind the latter
        return f"{file} can't be written"
    return f"{file} holds batch and weights"
