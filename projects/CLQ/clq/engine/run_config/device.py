"""The device of a run."""

import os

import torch
from detectron2.config import CfgNode

from .options import RunOptions


def resolve_device(cfg: CfgNode, options: RunOptions) -> None:
    """Replace CUDA by the CPU where there is none, unless the command line asks for CUDA.

    Args:
        cfg: not frozen; ``MODEL.DEVICE`` is changed in place.
        options: of the run.

    Raises:
        ValueError: the device does not exist, or several processes can't share it.
    """
    name, is_given = cfg.MODEL.DEVICE, "MODEL.DEVICE" in options.given
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"MODEL.DEVICE is '{name}'; it must be a device of PyTorch, such as cpu or cuda."
        ) from None
    if device.type != "cuda":
        return
    if cfg.MODEL.FAST_INFERENCE:
        if is_given:
            raise ValueError(
                f"MODEL.FAST_INFERENCE is for CPU, but MODEL.DEVICE is {name}; leave one of them "
                "out."
            )
        cfg.MODEL.DEVICE = "cpu"
    elif not torch.cuda.is_available():
        if is_given:
            raise ValueError(
                f"MODEL.DEVICE is {name}, but this machine has no CUDA; leave the key out to run "
                "on CPU."
            )
        cfg.MODEL.DEVICE = "cpu"
    elif device.index is not None and options.world_size > 1:
        raise ValueError(
            f"MODEL.DEVICE is {name}, but each of the {options.world_size} processes takes a GPU "
            "of its own; say cuda."
        )


def prepare_device(cfg: CfgNode) -> None:
    """Make ``MODEL.DEVICE`` the current one, and its algorithms deterministic if asked to."""
    if cfg.MODEL.DEVICE.startswith("cuda:"):
        torch.cuda.set_device(cfg.MODEL.DEVICE)  # else some operators would use the first one too
    if cfg.DETERMINISTIC:
        # cuBLAS demands a fixed workspace.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
