"""Values that are computed once and kept for later calls."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch

__all__ = ["Kept"]

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The values that were made last, by key.

    No part of any state: a copy of it is empty, and so is one that went through a pickle. What
    PyTorch traces or compiles is made anew, so that nothing of a trace is left behind.
    """

    def __init__(self, most: int) -> None:
        """
        Args:
            most: values that are kept at a time.
        """
        self._most = most
        self._values: dict[Hashable, Value] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; tensors in it have no graph and may be part of one."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return make()
        value = self._values.get(key)
        if value is None:
            with torch.inference_mode(False), torch.no_grad():
                value = make()
            while len(self._values) >= self._most:
                del self._values[next(iter(self._values))]
            self._values[key] = value
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._most,)
