"""A small cache that copies, pickles and traces leave out."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """The latest values by key.

    A copy of it is empty, also one that went through a pickle. Code that PyTorch traces or compiles
    bypasses it.
    """

    def __init__(self, max_size: int) -> None:
        """
        Args:
            max_size: values to keep; the oldest is evicted.
        """
        self._max_size = max_size
        self._values: dict[Hashable, Value] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Look up a value, or make it: its tensors have no graph and may be part of one."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return make()
        value = self._values.get(key)
        if value is None:
            with torch.inference_mode(False), torch.no_grad():
                value = make()
            while len(self._values) >= self._max_size:
                del self._values[next(iter(self._values))]
            self._values[key] = value
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._max_size,)
