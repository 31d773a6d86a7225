"""The tensors of a mmdetection detector by our names, each in one place or in none."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .names import (
    HEADS,
    NUM_LEVELS,
    is_level_scale,
    is_no_weight,
    is_of_another_head,
    mmdet_name_of,
    name_of_mmdet,
)

__all__ = ["Renamed", "head_of_mmdet", "rename_mmdet"]

_SCALES = "head.scales"


class Renamed(NamedTuple):
    """Tensors of a detector by our names.

    Attributes:
        tensors: by our names.
        there: names in the file by ours; all that are missing of the level scales.
        unknown: names in the file of tensors for which there is no place.
        head: of :data:`HEADS`.
    """

    tensors: dict[str, Tensor]
    there: dict[str, str]
    unknown: list[str]
    head: str

    def name_there(self, name: str) -> str:
        """Name that the file gives a tensor of ours, or would give it."""
        return self.there.get(name) or mmdet_name_of(name, self.head)


def head_of_mmdet(names: Iterable[str]) -> str | None:
    """The one of :data:`HEADS` with most of its predictors here; None if none has any."""
    names = list(names)
    counts = {
        head: sum(bool(re.match(rf"bbox_head\.{head}_(cls|reg)\.", name)) for name in names)
        for head in HEADS
    }
    head = max(HEADS, key=counts.__getitem__)
    return head if counts[head] else None


def rename_mmdet(tensors: Mapping[str, Tensor], head: str) -> Renamed:
    """Give each tensor our name.

    Counters and constants are left out.

    Args:
        tensors: under mmdetection's names.
        head: of :data:`HEADS`; parts of the other heads have no place.

    Raises:
        ValueError: a level scale is not one number.
    """
    ours: dict[str, Tensor] = {}
    there: dict[str, str] = {}
    unknown: list[str] = []
    for name, tensor in tensors.items():
        if is_no_weight(name) or is_level_scale(name):
            continue
        target = None if is_of_another_head(name, head) else name_of_mmdet(name)
        if target is None or target in ours:
            unknown.append(name)
        else:
            ours[target], there[target] = tensor, name
    scales = [f"bbox_head.scales.{level}.scale" for level in range(NUM_LEVELS)]
    missing = [name for name in scales if name not in tensors]
    for name in set(scales) - set(missing):
        if tensors[name].numel() != 1:
            shape = tuple(tensors[name].shape)
            raise ValueError(f"the tensor {name} has the shape {shape}, but must be one number.")
    if missing:
        there[_SCALES] = ", ".join(missing)
    else:
        ours[_SCALES] = torch.stack([tensors[name].reshape(()) for name in scales])  # (L,)
    return Renamed(ours, there, unknown, head)
