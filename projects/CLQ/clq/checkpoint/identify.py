"""Identify a weights file and map its tensors to CLQ's names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.serialize import parse_config
from . import mmdet
from .read_file import read_file
from .resnet_names import from_torchvision_name
from .weights_file import WeightsFile

# Keys under which training states keep their tensors.
_NESTS = ("model", "state_dict", "model_state", "blobs")
_MAX_DEPTH = 8
_OUR_HEAD = re.compile(
    r"head\.(?:scales$|(?:cls_score|bbox_pred|cls_subnet|bbox_subnet|alignment|quality)\.)"
)


def read_weights(
    path: str | Path, *, trusted: bool = False, spare: mmdet.Spare = mmdet.Spare.DROP_IF_SILENT
) -> WeightsFile:
    """Read a weights file of any kind and identify it by the names of its tensors.

    Args:
        path: on this machine.
        trusted: let a pickle run code.
        spare: treatment of the spare class channel in the CLQ authors' released head.

    Raises:
        ValueError: one sentence that names the file: it can't be read, would run code, or holds
            nothing that CLQ knows.
    """
    return identify_weights(read_file(path, trusted=trusted), path, spare=spare)


def identify_weights(
    content: Mapping[str, Any],
    path: str | Path,
    *,
    spare: mmdet.Spare = mmdet.Spare.DROP_IF_SILENT,
) -> WeightsFile:
    """Identify what :func:`read_file` gave; ``spare`` and errors as of :func:`read_weights`."""
    found, metadata = _find_tensors(content)
    try:
        tensors = _to_tensors(found)
        if "blobs" in content or metadata.get("matching_heuristics") or "conv1_w" in tensors:
            tensors = {n: t for n, t in tensors.items() if not n.endswith("_momentum")}
            metadata["author"] = metadata.get("__author__", "Caffe2")
            return WeightsFile("zoo", tensors, metadata=metadata)
        num_theirs = mmdet.count_head_tensors(tensors)
        num_ours = sum(bool(_OUR_HEAD.match(name)) for name in tensors)
        if num_theirs and num_theirs >= num_ours:
            return mmdet.convert(tensors, metadata.get("meta"), spare)
        if num_ours:
            return _our_detector(tensors, metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not tensors:
        raise ValueError(f"{path} holds no tensors.")
    if not any(_may_be_of_backbone(name, tensor) for name, tensor in tensors.items()):
        raise ValueError(
            f"{path} holds nothing that CLQ knows: none of its {len(tensors)} tensors is of a "
            f"detector's head or of a backbone; the first is {next(iter(tensors))}."
        )
    return WeightsFile("backbone", tensors, metadata=metadata)


def _find_tensors(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Unwrap the tensors, however deep they are nested; the rest is metadata."""
    metadata: dict[str, Any] = {}
    for _ in range(_MAX_DEPTH):  # a pickle can hold itself
        nest = next((n for n in _NESTS if isinstance(content.get(n), Mapping)), None)
        if nest is None:
            break
        metadata |= {name: value for name, value in content.items() if name != nest}
        content = content[nest]
    return content, metadata


def _to_tensors(found: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Convert arrays, and strip the prefix of a model that was wrapped for training."""
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


def _our_detector(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> WeightsFile:
    config = parse_config(metadata["config"]) if "config" in metadata else None
    class_names = metadata.get("class_names")
    if class_names is not None:
        if not isinstance(class_names, (list, tuple)) or not all(
            isinstance(name, str) for name in class_names
        ):
            raise ValueError("the class_names inside are no list of texts.")
        class_names = list(class_names)
    return WeightsFile(
        "detector", tensors, config=config, class_names=class_names, metadata=metadata
    )


def _may_be_of_backbone(name: str, tensor: Tensor) -> bool:
    """Tell whether a tensor may be a classifier's; it may have any name, but has convolutions."""
    is_kernel = tensor.dim() == 4 and name.endswith("weight")
    return is_kernel or name.startswith("backbone.") or from_torchvision_name(name) is not None
