"""``torch.compile`` for backbone and head."""

import torch
from torch import nn


def check_backend(name: str) -> None:
    """Raise a ValueError that names the backends of this machine, unless PyTorch has this one."""
    if name not in torch.compiler.list_backends(exclude_tags=()):
        known = " or ".join(f"'{known}'" for known in torch.compiler.list_backends())
        raise ValueError(f"MODEL.COMPILE.BACKEND is '{name}'; on this machine it must be {known}.")


def compile_network(model: nn.Module, backend: str) -> None:
    """Compile the backbone and the head of a detector, each when it first runs.

    Both keep the names of their weights, and a copy of the detector is not compiled. Matching and
    losses, whose shapes change with every image, are not compiled either.

    Args:
        model: changed in place.
        backend: one of ``torch.compiler.list_backends()``.

    Raises:
        ValueError: PyTorch has no such backend.
    """
    check_backend(backend)
    for part in (model.backbone, model.head):
        assert isinstance(part, nn.Module)
        part.compile(backend=backend)
