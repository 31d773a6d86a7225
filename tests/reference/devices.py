"""The device that a test runs on: what it computes goes there, and comes back to be compared."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from detectron2.structures import Boxes, ImageList, Instances

_devices = [torch.device("cpu")]


def current() -> torch.device:
    """The device of the fixture ``device``; CPU in tests that do not use it."""
    return _devices[-1]


@contextlib.contextmanager
def running_on(device: torch.device) -> Iterator[None]:
    """Make a device the current one, with fp32 as it is on CPU: no TF32."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    _devices.append(device)
    try:
        yield
    finally:
        _devices.pop()
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function on the current device, from values of the host to values of the host.

    Gradients find their way through both.
    """

    @functools.wraps(function, updated=())
    def call(*arguments: Any, **options: Any) -> Any:
        place = current()
        moved = {name: _to(value, place) for name, value in options.items()}
        return _to(function(*_to(arguments, place), **moved), torch.device("cpu"))

    return call


def _to(value: Any, device: torch.device) -> Any:
    """The same value with all tensors in it on a device."""
    if isinstance(value, (torch.Tensor, Boxes, Instances, ImageList)):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_to(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
