"""Read every file format that holds weights; no file runs code unless it is trusted."""

import hashlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..runtime.exported import is_exported
from .plain_pickle import (
    ARRAY_GLOBALS,
    ArrayUnpickler,
    UnplainValueError,
    UnsafePickleError,
    check_tuples,
)

DAMAGED = "{} is damaged: its bytes are not those that were written."
SHA256 = "sha256"  # key of the checksum in the metadata of our .safetensors files
_TRUST = "--unsafe of tools/convert_checkpoint.py or MODEL.TRUST_WEIGHTS True of train_net.py"
# Marks a PyTorch file that is no zip archive, near its start; a number as pickles write it.
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_START = 64
_LARGEST_HEADER = 100_000_000  # bytes, in safetensors
_FOLDER = 0x10  # attribute of a member in a zip archive


class CorruptedFileError(ValueError):
    """The file is damaged, or of no format that holds weights; the message names it."""


class _HistoryBuffer:
    """Stands in for mmengine's log of losses, which lies beside the weights."""


def _no_attribute(*_: Any) -> None:
    """Stands in for ``getattr``, by which that log names its own methods."""


# What a PyTorch file may name beside what PyTorch allows; harmless, or replaced by what is.
_SAFE_GLOBALS: list[Any] = [
    *((value, name) for name, value in ARRAY_GLOBALS.items() if name != "_codecs.encode"),
    (_HistoryBuffer, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_no_attribute, "builtins.getattr"),
]


def normalize_path(weights: str) -> str:
    """Strip what only some readers understand from a path or address.

    Args:
        weights: as ``MODEL.WEIGHTS``; ``file://`` is taken away, and options after a question mark,
            which Detectron2 takes, unless they are part of a web address.
    """
    if weights.startswith(("http://", "https://")):
        return weights
    return weights.removeprefix("file://").partition("?")[0]


def no_weights(path: str | Path) -> str:
    """Say why a path, which is no file, has no weights, and what to name instead."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for kind in ("*.safetensors", "*.pth") for file in path.glob(kind))
        example = f", such as {files[-1]}" if files else ""
        return f"the weights {path} are a folder; name a file{example}."
    if path.exists():
        return f"the weights {path} are a FIFO, a socket or a device, not a file."
    return f"the weights {path} do not exist."


def read_file(path: str | Path, *, trusted: bool = False) -> dict[str, Any]:
    """Read a ``.safetensors`` file, a PyTorch file or a pickle of arrays to CPU.

    Only the first is told by its name. A PyTorch archive is checked by the CRC of its members.

    Args:
        path: on this machine.
        trusted: let a pickle build any object, and so run any code.

    Returns:
        What the file holds by name. Of ``.safetensors``: ``model``, and ``config`` and
        ``class_names`` where the file has them.

    Raises:
        CorruptedFileError: the file is damaged or of another format.
        ValueError: the file does not exist, holds something else, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(no_weights(path))
    if is_exported(path):
        raise ValueError(
            f"{path} is an exported file, which detects and is evaluated but not trained or "
            "changed; name the checkpoint that it was exported from."
        )
    try:
        content = _read(path, trusted=trusted)
    except UnsafePickleError as error:
        raise ValueError(
            f"{path} is refused, because it asks for the object {error} and could run code; if "
            f"you trust where it comes from, use {_TRUST}."
        ) from None
    except UnplainValueError as error:
        raise ValueError(f"{path} is refused: it holds {error}.") from None
    except (OSError, CorruptedFileError):
        raise
    except ModuleNotFoundError as error:
        raise ValueError(f"{path} needs the module {error.name}, which is not here.") from error
    except Exception as error:  # PyTorch, zipfile and pickle have many ways to say it
        raise CorruptedFileError(f"{path} is not a checkpoint that PyTorch can read.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint: it holds a {type(content).__name__}.")
    return content


def _read(path: Path, *, trusted: bool) -> Any:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    with path.open("rb") as file:
        is_legacy = _LEGACY_MAGIC in file.read(_START)
        if not is_legacy and not zipfile.is_zipfile(path):
            file.seek(0)
            if not trusted:
                check_tuples(file)
                file.seek(0)
            unpickler = pickle.Unpickler if trusted else ArrayUnpickler
            return unpickler(file, encoding="latin1").load()  # Python 2 may have written it
    if not is_legacy:
        _verify_archive(path)
    if not trusted:
        _check_torch_pickles(path, is_legacy=is_legacy)
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=not trusted)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))  # an object, in PyTorch's words
        raise UnsafePickleError(refused[1]) if refused and not trusted else error from None


def _check_torch_pickles(path: Path, *, is_legacy: bool) -> None:
    """Check the tuples in a PyTorch file, see :func:`check_tuples`."""
    if is_legacy:
        with path.open("rb") as file:
            for _ in range(5):  # magic number, protocol, machine, content, names of the tensors
                check_tuples(file)
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                with archive.open(name) as member:
                    check_tuples(io.BytesIO(member.read()))


def _verify_archive(path: Path) -> None:
    """Check the CRCs of a zip archive, at which PyTorch does not look.

    One that is damaged beside its members may raise an error of any kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() is not None
            # PyTorch reads nothing from a member that one flipped bit makes a folder.
            damaged |= any(m.external_attr & _FOLDER and m.file_size for m in archive.infolist())
    except OSError:  # a damaged offset, most often
        damaged = True
    if damaged:
        raise CorruptedFileError(DAMAGED.format(path))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object of a json whose names differ; readers disagree on which of two they take."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return dict(pairs)


def _read_safetensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as header:
        size = int.from_bytes(header.read(8), "little")
        json.loads(header.read(min(size, _LARGEST_HEADER)), object_pairs_hook=_once)
    with safe_open(path, framework="pt") as file:
        content: dict[str, Any] = {"model": {name: file.get_tensor(name) for name in file.keys()}}
        metadata = dict(file.metadata() or {})
    written = metadata.pop(SHA256, None)
    if written is not None and written != safetensors_checksum(path.read_bytes(), metadata):
        raise CorruptedFileError(DAMAGED.format(path))
    if "config" in metadata:
        content["config"] = metadata["config"]
    if "class_names" in metadata:
        content["class_names"] = json.loads(metadata["class_names"])
    return content


def safetensors_checksum(content: bytes, metadata: Mapping[str, str]) -> str:
    """Hash a ``.safetensors`` file, a format without a checksum of its own.

    Args:
        content: of the file: eight bytes that tell the size of the header, the header, tensors.
        metadata: without the hash.
    """
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_size])
    header["__metadata__"] = dict(metadata)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(content[8 + header_size :])
    return digest.hexdigest()


def validate_tensor(name: str, tensor: Tensor, *, dims: int | None = None) -> None:
    """Reject a tensor that no layer can compute with.

    Args:
        name: in the file.
        tensor: of any kind.
        dims: number of dimensions that it must have; None takes any.

    Raises:
        ValueError: naming the tensor and what is wrong with it.
    """
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ValueError(f"the tensor {name} is sparse, quantized or without values, not dense.")
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"the tensor {name} is of {kind}, not of floating point.")
    if not tensor.isfinite().all():
        raise ValueError(f"the tensor {name} has values that are not finite.")
    if name.endswith("running_var") and (tensor < 0).any():
        raise ValueError(f"the tensor {name} has variances below 0.")
    if dims is not None and (tensor.dim() != dims or not tensor.numel()):
        raise ValueError(
            f"the tensor {name} has the shape {tuple(tensor.shape)}, but must have {dims} "
            f"dimension{'s' * (dims > 1)}, none of them empty."
        )
