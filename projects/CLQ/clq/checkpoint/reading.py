"""One reader for every file that holds weights; none of them may run code unless it is trusted."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .numpy_pickle import ARRAY_BUILDERS, CodeInPickle, load_numpy_pickle, objects_named_by
from .safetensors_file import read_safetensors

__all__ = ["read_file"]

TRUST = "--unsafe of tools/convert_checkpoint.py or MODEL.TRUST_WEIGHTS True of train_net.py"


class _History:
    """Takes the place of mmengine's record of losses, which lies beside the weights."""


def _no_attribute(*_: Any) -> None:
    """Takes the place of ``getattr``, by which that record names its own methods."""


# What training states hold beside tensors; harmless, or replaced by what is.
_HARMLESS: list[Any] = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")},
    *((value, name) for name, value in ARRAY_BUILDERS.items()),
    (_History, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_no_attribute, "builtins.getattr"),
]


def read_file(path: str | Path, *, trusted: bool = False) -> dict[str, Any]:
    """Content of a ``.safetensors``, ``.pth``, ``.pt`` or ``.pkl`` file, on CPU.

    Args:
        path: on this machine.
        trusted: let a pickle build any object, and so run any code.

    Returns:
        What the file holds by name. Of ``.safetensors``: ``model``, and ``config`` and
        ``class_names`` where the file has them.

    Raises:
        ValueError: the file does not exist, can't be read, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"the weights {path} do not exist.")
    try:
        content = _read(path, trusted=trusted)
    except CodeInPickle as error:
        raise ValueError(
            f"{path} is refused, because it asks for the object {error} and could run code; if "
            f"you trust where it comes from, use {TRUST}."
        ) from None
    except OSError:
        raise
    except ModuleNotFoundError as error:
        raise ValueError(f"{path} needs the module {error.name}, which is not here.") from error
    except Exception as error:  # PyTorch and pickle have many ways to say it
        raise ValueError(f"{path} is not a checkpoint that PyTorch can read.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint: it holds a {type(content).__name__}.")
    return content


def _read(path: Path, *, trusted: bool) -> Any:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".pkl" and not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return pickle.load(file, encoding="latin1") if trusted else load_numpy_pickle(file)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=not trusted)
    except pickle.UnpicklingError as error:
        refused = _refused_object(path, str(error))
        raise CodeInPickle(refused) if refused and not trusted else error from None


def _refused_object(path: Path, message: str) -> str | None:
    """The object that PyTorch's safe reader refused; None if that was not its complaint."""
    found = re.search(r"GLOBAL (\S+)", message)
    if found:
        return found[1]
    named = objects_named_by(path.read_bytes()) if not zipfile.is_zipfile(path) else []
    return named[0] if named else None
