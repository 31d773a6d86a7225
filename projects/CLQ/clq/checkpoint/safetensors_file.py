"""``.safetensors`` files of a detector: its tensors, its configuration and its class names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..data.downloads import write_atomically

__all__ = ["read_safetensors", "write_safetensors"]


def read_safetensors(path: str | Path) -> dict[str, Any]:
    """Tensors as ``model``, and ``config`` and ``class_names`` where the file has them.

    Raises:
        SafetensorError: the file is not of this format.
    """
    with safe_open(path, framework="pt") as file:
        content: dict[str, Any] = {"model": {name: file.get_tensor(name) for name in file.keys()}}
        metadata = file.metadata() or {}
    if "config" in metadata:
        content["config"] = metadata["config"]
    if "class_names" in metadata:
        content["class_names"] = json.loads(metadata["class_names"])
    return content


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], *, config: str, class_names: Sequence[str]
) -> None:
    """Write a detector whole or not at all.

    Args:
        path: of the new file; one of that name is replaced.
        tensors: by name, on any device.
        config: yaml.
        class_names: in the order of the class indices.
    """
    metadata = {"format": "pt", "config": config, "class_names": json.dumps(list(class_names))}
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(Path(path), save(on_cpu, metadata))
