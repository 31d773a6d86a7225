"""Open a detector, be it a checkpoint or an exported file."""

import os
from pathlib import Path

from ..runtime.exported import ExportedPredictor, is_exported
from ..runtime.predictor import ImagePredictor
from .predictor import Predictor, usable_device


def open_predictor(
    weights: str | Path, device: str | None = None, *, fast: bool = False
) -> ImagePredictor:
    """Open a detector from one file.

    Args:
        weights: ``.safetensors`` or ``.pth`` with its configuration inside, as a training run
            writes them, a checkpoint of mmdetection, or a file that ``clq export`` wrote.
        device: of PyTorch; None takes CUDA where there is one, unless ``fast`` is asked for.
        fast: on CPU, in bf16 where the CPU supports it, with norms folded into convolutions.

    Raises:
        OSError: an exported file can't be read.
        ValueError: the file can't be read, has no configuration inside, or does not fit it; or an
            argument is not for such a file.
    """
    if is_exported(weights):
        if fast or device not in (None, "cpu"):
            argument = "--fast" if fast else f"--device {device}"
            raise ValueError(f"{weights} is an exported file, which runs on CPU; omit {argument}.")
        return ExportedPredictor.from_file(os.path.expanduser(weights))
    usable = usable_device("cpu" if fast and device is None else device)
    return Predictor.from_checkpoint(weights, usable, fast=fast)
