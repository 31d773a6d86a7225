"""Identify a weights file and map its tensors to our names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..config.serialize import parse_config
from .mmdet.config import config_of_mmdet
from .mmdet.meta import class_names_of_mmdet, num_groups_of_mmdet
from .mmdet.names import name_of_resnet
from .mmdet.rename import Renamed, head_of_mmdet, rename_mmdet
from .mmdet.spare_class import Spare, drop_spare_class
from .pixel_settings import PIXEL_KEYS
from .read_file import read_file, validate_tensor

__all__ = ["Contents", "read_contents"]

# Under which names training states keep their tensors.
_NESTS = ("model", "state_dict", "model_state", "blobs")
_DEEPEST_NEST = 8
_OUR_HEAD = re.compile(
    r"head\.(?:scales$|(?:cls_score|bbox_pred|cls_subnet|bbox_subnet|alignment|quality)\.)"
)
_CLASS_WEIGHT = "head.cls_score.weight"
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
    pixel_settings: dict[str, Any] = field(default_factory=dict)  # keys, of a detector's config
    notes: list[str] = field(default_factory=list)  # what was decided on the way
    guesses: dict[str, str] = field(default_factory=dict)  # notes by the key that was guessed
    rest: dict[str, Any] = field(default_factory=dict)  # what lies beside, such as an optimizer
    name_there: Callable[[str], str] = str  # what the file calls a tensor
    unknown: list[str] = field(default_factory=list)  # names there for which there is no place

    @property
    def num_classes(self) -> int | None:
        """Class count of a detector; None where no convolution tells it."""
        weight = self.tensors.get(_CLASS_WEIGHT)
        return len(weight) if weight is not None and weight.dim() else None


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
    try:
        tensors = _as_tensors(found)
        if "blobs" in content or rest.get("matching_heuristics") or "conv1_w" in tensors:
            tensors = {n: t for n, t in tensors.items() if not n.endswith("_momentum")}
            rest["author"] = rest.get("__author__", "Caffe2")
            return Contents("zoo", tensors, rest=rest)
        theirs = sum(name.startswith("bbox_head.") for name in tensors)
        ours = sum(bool(_OUR_HEAD.match(name)) for name in tensors)
        if theirs and theirs >= ours:
            return _contents_of_mmdet(tensors, rest.get("meta"), spare)
        if ours:
            return _contents_of_ours(tensors, rest)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not tensors:
        raise ValueError(f"{path} holds no tensors.")
    if not any(_is_of_backbone(name, tensor) for name, tensor in tensors.items()):
        raise ValueError(
            f"{path} holds nothing that CLQ knows: none of its {len(tensors)} tensors is of a "
            f"detector's head or of a backbone; the first is {next(iter(tensors))}."
        )
    return Contents("backbone", tensors, rest=rest)


def _is_of_backbone(name: str, tensor: Tensor) -> bool:
    """Tell whether a tensor may be a classifier's; it may have any name, but has convolutions."""
    is_kernel = tensor.dim() == 4 and name.endswith("weight")
    return is_kernel or name.startswith("backbone.") or name_of_resnet(name) is not None


def _find_tensors(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The tensors, however deep they are nested, and all that lies beside them on the way."""
    rest: dict[str, Any] = {}
    for _ in range(_DEEPEST_NEST):  # a pickle can hold itself
        nest = next((n for n in _NESTS if isinstance(content.get(n), Mapping)), None)
        if nest is None:
            break
        rest |= {name: value for name, value in content.items() if name != nest}
        content = content[nest]
    return content, rest


def _as_tensors(found: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors and arrays, without the prefix of a model that was wrapped for training."""
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        if not isinstance(value, (Tensor, np.ndarray)):
            continue
        if not isinstance(name, str):
            raise ValueError(f"it holds a tensor under {name!r}, which is no name.")
        try:
            tensors[name] = (
                torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
            )
        except TypeError:
            raise ValueError(
                f"the array {name} is of {value.dtype}, which PyTorch lacks."
            ) from None
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _contents_of_ours(tensors: dict[str, Tensor], rest: dict[str, Any]) -> Contents:
    config = parse_config(rest["config"]) if "config" in rest else None
    class_names = rest.get("class_names")
    if class_names is not None:
        if not isinstance(class_names, (list, tuple)) or not all(
            isinstance(name, str) for name in class_names
        ):
            raise ValueError("the class_names inside are no list of texts.")
        class_names = list(class_names)
    return Contents(
        "detector",
        tensors,
        config=config,
        class_names=class_names,
        pixel_settings=_pixel_settings(config) if config else {},
        rest=rest,
    )


def _contents_of_mmdet(tensors: dict[str, Tensor], meta: Any, spare: Spare) -> Contents:
    meta = meta if isinstance(meta, Mapping) else {}
    head = head_of_mmdet(tensors)
    if head is None:
        raise ValueError("its head is none of ATSS, GFL or CLQ.")
    renamed = rename_mmdet(tensors, head)
    try:
        return _contents_of_renamed(renamed, meta, spare)
    except ValueError as error:
        unknown = renamed.unknown
        raise ValueError(
            f"{error} Unknown tensors ({len(unknown)}): {', '.join(unknown)}." if unknown else error
        ) from None


def _contents_of_renamed(renamed: Renamed, meta: Mapping[str, Any], spare: Spare) -> Contents:
    for name, tensor in renamed.tensors.items():
        validate_tensor(renamed.name_there(name), tensor)
    class_names, notes = class_names_of_mmdet(meta), []
    ours = dict(renamed.tensors)
    weight, bias = _class_predictor(renamed)
    if renamed.head == "clq":
        weight, bias, note = drop_spare_class(weight, bias, spare)
        ours |= {_CLASS_WEIGHT: weight, "head.cls_score.bias": bias}
        notes.append(note)
        if class_names and spare is Spare.KEEP and len(class_names) == len(weight) - 1:
            class_names.append(_SPARE_CLASS)
    config = config_of_mmdet({renamed.name_there(name): ours[name] for name in ours}, meta)
    if class_names and len(class_names) != len(weight):
        raise ValueError(f"it names {len(class_names)} classes but predicts {len(weight)}.")
    guesses = {}
    if num_groups_of_mmdet(meta) is None:
        guesses["MODEL.CLQ.NUM_GROUPS"] = (
            "The file does not state the groups of its GroupNorm; took "
            f"{config.MODEL.CLQ.NUM_GROUPS}, give MODEL.CLQ.NUM_GROUPS if that is wrong."
        )
    return Contents(
        "detector",
        ours,
        config=config,
        class_names=class_names,
        pixel_settings=_pixel_settings(config),
        notes=notes,
        guesses=guesses,
        name_there=renamed.name_there,
        unknown=renamed.unknown,
    )


def _class_predictor(renamed: Renamed) -> tuple[Tensor, Tensor]:
    """Its weight, (K, C, 3, 3), and its bias, (K,)."""
    names = [f"bbox_head.{renamed.head}_cls.{kind}" for kind in ("weight", "bias")]
    parts = [renamed.tensors.get(f"head.cls_score.{kind}") for kind in ("weight", "bias")]
    for name, part, dims in zip(names, parts, (4, 1)):
        if part is None:
            raise ValueError(f"the tensor {name} is missing.")
        validate_tensor(name, part, dims=dims)
    weight, bias = (part for part in parts if part is not None)
    if len(weight) != len(bias):
        raise ValueError(
            f"the tensor {names[0]} has {len(weight)} channels, but {names[1]} {len(bias)}."
        )
    return weight, bias


def _pixel_settings(config: CfgNode) -> dict[str, Any]:
    return {key: _value(config, key) for key in PIXEL_KEYS}


def _value(config: CfgNode, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config
