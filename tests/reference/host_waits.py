"""Counting the operators on which a GPU's host would wait."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

_OPERATORS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique")
# Methods that read a tensor of the host without any operator.
_METHODS = ("cpu", "numpy", "tolist")


def host_waits(run) -> list[str]:
    """Operators and methods that a call runs on which a GPU's host would wait.

    Indexing by a boolean mask shows as nonzero. The profiler sees the backward pass as it is,
    which a dispatch mode does not.
    """
    with _noting_methods() as methods, profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    operators = [event.name for event in profiler.events() if event.name.startswith(_OPERATORS)]
    return operators + methods


@contextlib.contextmanager
def _noting_methods() -> Iterator[list[str]]:
    called: list[str] = []
    with contextlib.ExitStack() as patches:
        for name in _METHODS:
            original = getattr(torch.Tensor, name)

            def noting(tensor, *args, name=name, original=original, **options):
                called.append(f"Tensor.{name}")
                return original(tensor, *args, **options)

            patches.enter_context(mock.patch.object(torch.Tensor, name, noting))
        yield called
