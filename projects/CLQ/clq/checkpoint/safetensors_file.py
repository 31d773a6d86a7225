"""``.safetensors`` files of a detector: its tensors, its configuration and its class names."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..utils.atomic_write import write_atomically
from .seal import DamagedFile

__all__ = ["read_safetensors", "write_safetensors"]

_SHA256 = "sha256"  # what the metadata calls the hash


def read_safetensors(path: str | Path) -> dict[str, Any]:
    """Tensors as ``model``, and ``config`` and ``class_names`` where the file has them.

    Raises:
        DamagedFile: the bytes are not those that :func:`write_safetensors` wrote.
        SafetensorError: the file is not of this format.
    """
    with safe_open(path, framework="pt") as file:
        content: dict[str, Any] = {"model": {name: file.get_tensor(name) for name in file.keys()}}
        metadata = dict(file.metadata() or {})
    written = metadata.pop(_SHA256, None)
    if written is not None and written != _digest(Path(path).read_bytes(), metadata):
        raise DamagedFile(f"{path} is damaged: its bytes are not those that were written.")
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
    metadata[_SHA256] = _digest(save(on_cpu, metadata), metadata)
    write_atomically(Path(path), save(on_cpu, metadata))


def _digest(content: bytes, metadata: Mapping[str, str]) -> str:
    """Hash of a file's tensors, which lie behind its header, and of what it says beside them."""
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_size])
    header["__metadata__"] = dict(metadata)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(content[8 + header_size :])
    return digest.hexdigest()
