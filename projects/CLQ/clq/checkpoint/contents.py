"""What a file of weights is, told by the names of its tensors, and its tensors by our names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from .embedded_config import parse_config
from .mmdet_config import config_of_mmdet
from .mmdet_meta import class_names_of_mmdet, pixel_settings_of_mmdet
from .mmdet_names import HEADS, is_level_scale, mmdet_name_of, name_of_mmdet, unknown_names
from .pixel_settings import PIXEL_KEYS
from .reading import read_file
from .spare_class import Spare, drop_spare_class

__all__ = ["Contents", "read_contents"]

# Under which names training states keep their tensors.
_NESTS = ("model", "state_dict", "model_state", "blobs")
_SPARE_CLASS = "spare"


@dataclass(frozen=True)
class Contents:
    """A file of weights.

    ``detector`` has all tensors of a model under our names, ``backbone`` those of a classifier
    under the names it came with, and ``zoo`` those of Detectron2's or Caffe2's model zoo, which
    Detectron2 renames.
    """

    kind: Literal["detector", "backbone", "zoo"]
    tensors: dict[str, Tensor]
    config: CfgNode | None = None  # that the detector can be built from, not frozen
    class_names: list[str] | None = None  # where the file states them
    pixel_settings: dict[str, Any] = field(default_factory=dict)  # keys, where the file states them
    notes: list[str] = field(default_factory=list)  # what was decided on the way
    rest: dict[str, Any] = field(default_factory=dict)  # what lies beside, such as an optimizer
    name_there: Callable[[str], str] = str  # what the file calls a tensor


def read_contents(
    path: str | Path, *, trusted: bool = False, spare: Spare = Spare.DROP_IF_SILENT
) -> Contents:
    """Read a file of weights and find out what it is.

    Args:
        path: on this machine.
        trusted: let a pickle run code.
        spare: what becomes of the released CLQ head's spare class channel.

    Raises:
        ValueError: one sentence that names the file: it can't be read, would run code, or holds
            nothing that CLQ knows.
    """
    content = read_file(path, trusted=trusted)
    found, rest = _find_tensors(content)
    tensors = _as_tensors(found)
    names = set(tensors)
    if "blobs" in content or rest.get("matching_heuristics") or "conv1_w" in names:
        return Contents("zoo", tensors, rest={**rest, "author": rest.get("__author__", "Caffe2")})
    try:
        if any(name.startswith("bbox_head.") for name in names):
            return _contents_of_mmdet(tensors, rest.get("meta") or {}, spare)
        if "head.scales" in names:
            return _contents_of_ours(tensors, rest)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not names:
        raise ValueError(f"{path} holds no tensors.")
    return Contents("backbone", tensors, rest=rest)


def _find_tensors(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The tensors, however deep they are nested, and all that lies beside them on the way."""
    rest: dict[str, Any] = {}
    while nest := next((n for n in _NESTS if isinstance(content.get(n), Mapping)), None):
        rest |= {name: value for name, value in content.items() if name != nest}
        content = content[nest]
    return content, rest


def _as_tensors(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors and arrays, without the prefix of a model that was wrapped for training."""
    tensors = {
        name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
        for name, value in found.items()
        if isinstance(value, (Tensor, np.ndarray)) and not name.endswith("_momentum")
    }
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _contents_of_ours(tensors: dict[str, Tensor], rest: dict[str, Any]) -> Contents:
    config = parse_config(rest["config"]) if "config" in rest else None
    return Contents(
        "detector",
        tensors,
        config=config,
        class_names=rest.get("class_names"),
        pixel_settings={key: _value(config, key) for key in PIXEL_KEYS} if config else {},
        rest=rest,
    )


def _contents_of_mmdet(
    tensors: dict[str, Tensor], meta: Mapping[str, Any], spare: Spare
) -> Contents:
    class_names = class_names_of_mmdet(meta)
    tensors, notes = dict(tensors), []
    predictor = "bbox_head.clq_cls"
    if {f"{predictor}.weight", f"{predictor}.bias"} <= set(tensors):
        weight, bias = tensors[f"{predictor}.weight"], tensors[f"{predictor}.bias"]
        weight, bias, note = drop_spare_class(weight, bias, spare)
        tensors |= {f"{predictor}.weight": weight, f"{predictor}.bias": bias}
        notes.append(note)
        if class_names and spare is Spare.KEEP and len(class_names) == len(weight) - 1:
            class_names.append(_SPARE_CLASS)
    try:
        config = config_of_mmdet(tensors, meta)
    except ValueError as error:
        unknown = unknown_names(tensors)
        raise ValueError(
            f"{error} Unknown tensors ({len(unknown)}): {', '.join(unknown)}." if unknown else error
        ) from None
    if class_names and len(class_names) != config.MODEL.CLQ.NUM_CLASSES:
        raise ValueError(
            f"it names {len(class_names)} classes but predicts {config.MODEL.CLQ.NUM_CLASSES}."
        )
    head = next(head for head in HEADS if f"bbox_head.{head}_cls.weight" in tensors)
    ours = {name_of_mmdet(n) or n: t for n, t in tensors.items() if not is_level_scale(n)}
    return Contents(
        "detector",
        ours | _level_scales(tensors),
        config=config,
        class_names=class_names,
        pixel_settings=pixel_settings_of_mmdet(meta),
        notes=notes,
        name_there=partial(mmdet_name_of, head=head),
    )


def _level_scales(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scale of each level as one tensor, (L,)."""
    scales: list[Tensor] = []
    while (name := f"bbox_head.scales.{len(scales)}.scale") in tensors:
        scales.append(tensors[name].reshape(()))
    return {"head.scales": torch.stack(scales)} if scales else {}


def _value(config: CfgNode, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config
