"""Rename the tensors of a mmdetection detector."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .names import (
    HEADS,
    NUM_LEVELS,
    from_mmdet_name,
    is_ignored_buffer,
    is_level_scale,
    is_of_another_head,
    to_mmdet_name,
)


class Renamed(NamedTuple):
    """Tensors of a detector by our names.

    Attributes:
        tensors: by our names.
        source_names: names in the file by ours; of the level scales, all that are missing.
        unmatched: names in the file of tensors for which there is no place.
        head: of :data:`HEADS`.
    """

    tensors: dict[str, Tensor]
    source_names: dict[str, str]
    unmatched: list[str]
    head: str

    def source_name(self, name: str) -> str:
        """Name that the file gives a tensor of ours, or would give it."""
        return self.source_names.get(name) or to_mmdet_name(name, self.head)


def detect_head(names: Iterable[str]) -> str | None:
    """The one of :data:`HEADS` with most of its predictors here; None if none has any."""
    names = list(names)
    counts = {
        head: sum(bool(re.match(rf"bbox_head\.{head}_(cls|reg)\.", name)) for name in names)
        for head in HEADS
    }
    head = max(HEADS, key=counts.__getitem__)
    return head if counts[head] else None


def rename_tensors(tensors: Mapping[str, Tensor], head: str) -> Renamed:
    """Give each tensor our name, counters and constants left out.

    Args:
        tensors: under mmdetection's names.
        head: of :data:`HEADS`; parts of the other heads have no place.

    Raises:
        ValueError: a level scale is not one number.
    """
    renamed = Renamed({}, {}, [], head)
    for name, tensor in tensors.items():
        if is_ignored_buffer(name) or is_level_scale(name):
            continue
        target = None if is_of_another_head(name, head) else from_mmdet_name(name)
        if target is None or target in renamed.tensors:
            renamed.unmatched.append(name)
        else:
            renamed.tensors[target], renamed.source_names[target] = tensor, name
    scales = [f"bbox_head.scales.{level}.scale" for level in range(NUM_LEVELS)]
    missing = [name for name in scales if name not in tensors]
    for name in set(scales) - set(missing):
        if tensors[name].numel() != 1:
            shape = tuple(tensors[name].shape)
            raise ValueError(f"the tensor {name} has the shape {shape}, but must be one number.")
    if missing:
        renamed.source_names["head.scales"] = ", ".join(missing)
    else:
        stacked = torch.stack([tensors[name].reshape(()) for name in scales])  # (L,)
        renamed.tensors["head.scales"] = stacked
    return renamed
