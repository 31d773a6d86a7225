"""CLQ's names of the tensors of mmdetection's detectors, and back."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..resnet_names import RESNET_RULES, apply_rules

# The released heads by the first part of their predictors' names.
HEADS = ("clq", "gfl", "atss")
_SCALES = [f"bbox_head.scales.{level}.scale" for level in range(5)]  # of P3 .. P7

_NECK = {
    **{f"lateral_convs.{i}.conv": f"fpn_lateral{i + 3}" for i in range(3)},
    **{f"fpn_convs.{i}.conv": f"fpn_output{i + 3}" for i in range(3)},
    **{f"fpn_convs.{i}.conv": f"top_block.p{i + 3}" for i in (3, 4)},
}
_HEAD = {
    **{f"{head}_cls": "cls_score" for head in HEADS},
    **{f"{head}_reg": "bbox_pred" for head in HEADS},
    "retina_iou": "quality.predictor",
    "atss_centerness": "quality.predictor",
    "feature_alignment.conv_offset": "alignment.offset",
    "feature_alignment.conv_adaption": "alignment.conv",
    "cls_convs.#.conv": "cls_subnet.#",
    "cls_convs.#.gn": "cls_subnet.#.norm",
    "reg_convs.#.conv": "bbox_subnet.#",
    "reg_convs.#.gn": "bbox_subnet.#.norm",
}
_RULES = {
    **{f"backbone.{theirs}": f"backbone.bottom_up.{ours}" for theirs, ours in RESNET_RULES.items()},
    **{f"neck.{theirs}": f"backbone.{ours}" for theirs, ours in _NECK.items()},
    **{f"bbox_head.{theirs}": f"head.{ours}" for theirs, ours in _HEAD.items()},
}


def is_ignored_buffer(name: str) -> bool:
    """Tell whether a tensor is a counter or a constant, which our modules do without."""
    return name.endswith(("num_batches_tracked", "integral.project"))


def _is_of_another_head(name: str, head: str) -> bool:
    """Tell whether a tensor or module is a part that a head does not have.

    Args:
        name: such as ``bbox_head.atss_cls.weight``.
        head: of :data:`HEADS`.
    """
    others = [f"bbox_head.{other}_" for other in HEADS if other != head]
    if head == "atss":
        others.append("bbox_head.retina_iou")
    return name.startswith(tuple(others))


def from_mmdet_name(name: str) -> str | None:
    """Our name of a tensor of mmdetection; None if we have no such part.

    Args:
        name: such as ``neck.lateral_convs.0.conv.weight``. The level scales, which are one tensor
            here, have no name of their own.
    """
    return apply_rules(name, _RULES)


def to_mmdet_name(name: str, head: str) -> str:
    """Mmdetection's name of our tensor; our own if it has none.

    Args:
        name: such as ``head.cls_score.weight``.
        head: of :data:`HEADS`.
    """
    rules = {
        ours: theirs
        for theirs, ours in reversed(_RULES.items())
        if not _is_of_another_head(theirs, head)
    }
    return "bbox_head.scales.*.scale" if name == "head.scales" else apply_rules(name, rules) or name


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
        if is_ignored_buffer(name) or name in _SCALES:
            continue
        target = None if _is_of_another_head(name, head) else from_mmdet_name(name)
        if target is None or target in renamed.tensors:
            renamed.unmatched.append(name)
        else:
            renamed.tensors[target], renamed.source_names[target] = tensor, name
    missing = [name for name in _SCALES if name not in tensors]
    for name in set(_SCALES) - set(missing):
        if tensors[name].numel() != 1:
            shape = tuple(tensors[name].shape)
            raise ValueError(f"the tensor {name} has the shape {shape}, but must be one number.")
    if missing:
        renamed.source_names["head.scales"] = ", ".join(missing)
    else:
        stacked = torch.stack([tensors[name].reshape(()) for name in _SCALES])  # (L,)
        renamed.tensors["head.scales"] = stacked
    return renamed
