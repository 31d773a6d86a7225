"""What is left behind where a loss is infinite or not a number."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clq.files import open_atomically

__all__ = ["check_finite"]


def check_finite(
    losses: dict[str, Tensor],
    batch: list[dict[str, Any]],
    model: nn.Module,
    *,
    iteration: int,
    folder: Path,
) -> None:
    """Stop where a loss is not finite, and save what is needed to look at it.

    ``nonfinite_<iteration>.pth`` holds the losses, the batch as the model got it (``images``,
    ``gt_boxes`` in pixels and ``gt_classes``, ``file_names``) and the weights before the step; it
    loads with ``torch.load``.

    Args:
        losses: scalars by name.
        batch: of this process.
        model: that gave the losses.
        iteration: of the training.
        folder: for the file.

    Raises:
        FloatingPointError: naming the losses, the images and the file.
    """
    if torch.stack(list(losses.values())).isfinite().all():
        return
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    names = [str(sample.get("file_name", "?")) for sample in batch]
    file = folder / f"nonfinite_{iteration:07d}.pth"
    instances = [sample["instances"] for sample in batch if "instances" in sample]
    content = {
        "iteration": iteration,
        "losses": values,
        "file_names": names,
        "images": [sample["image"] for sample in batch if "image" in sample],
        "gt_boxes": [gt.gt_boxes.tensor for gt in instances],
        "gt_classes": [gt.gt_classes for gt in instances],
        "model": model.state_dict(),
    }
    kept = _keep(content, file)
    bad = ", ".join(f"{name} {value:g}" for name, value in values.items())
    raise FloatingPointError(
        f"the loss is not finite in iteration {iteration} ({bad}), on the images "
        f"{', '.join(names)}; {kept}, and the weights of the last checkpoint are as they were: a "
        "lower SOLVER.BASE_LR often helps."
    )


def _keep(content: dict[str, Any], file: Path) -> str:
    """Write a file, or say that it can't be written, as on a full disk."""
    try:
        with open_atomically(file) as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError):  # torch.save hides the former behind the latter
        return f"{file} can't be written"
    return f"{file} holds batch and weights"
