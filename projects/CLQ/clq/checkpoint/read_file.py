"""One reader for every file that holds weights; none of them may run code unless it is trusted."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .numpy_pickle import ARRAY_BUILDERS, CodeInPickle, load_numpy_pickle
from .safetensors_file import read_safetensors
from .seal import DamagedFile, check_intact

__all__ = ["plain_address", "read_file"]

TRUST = "--unsafe of tools/convert_checkpoint.py or MODEL.TRUST_WEIGHTS True of train_net.py"


# The mark near the start of a PyTorch file that is no zip archive, a number as pickles write it.
_OLD_PYTORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_START = 64


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


def plain_address(weights: str) -> str:
    """An address of weights as every reader takes it.

    Args:
        weights: as ``MODEL.WEIGHTS``; ``file://`` is taken away, and options after a question mark,
            which Detectron2 takes, unless they are part of a web address.
    """
    if weights.startswith(("http://", "https://")):
        return weights
    return weights.removeprefix("file://").partition("?")[0]


def read_file(path: str | Path, *, trusted: bool = False) -> dict[str, Any]:
    """Content of a ``.safetensors`` file, a PyTorch file or a pickle of arrays, on CPU.

    Only the first is told by its name.

    Args:
        path: on this machine.
        trusted: let a pickle build any object, and so run any code.

    Returns:
        What the file holds by name. Of ``.safetensors``: ``model``, and ``config`` and
        ``class_names`` where the file has them.

    Raises:
        ValueError: the file does not exist, can't be read, is damaged, or would run code.
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
    except (OSError, DamagedFile):
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
    with path.open("rb") as file:
        is_old = _OLD_PYTORCH in file.read(_START)
        if not is_old and not zipfile.is_zipfile(path):
            file.seek(0)
            return pickle.load(file, encoding="latin1") if trusted else load_numpy_pickle(file)
    if not is_old:
        check_intact(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=not trusted)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))  # an object, in PyTorch's words
        raise CodeInPickle(refused[1]) if refused and not trusted else error from None
