"""Pickles of numpy arrays, such as Detectron2's model zoo keeps, read without running their code.

A pickle may name any object of Python and call it. This reader knows those that rebuild an array
and refuses all others, before anything is called.
"""

import _codecs
import collections
import pickle
from typing import IO, Any

import numpy as np

__all__ = ["ARRAY_BUILDERS", "CodeInPickle", "load_numpy_pickle"]

# What numpy calls to rebuild an array or a number, by the names of its releases 1 and 2.
ARRAY_BUILDERS: dict[str, Any] = {
    f"numpy.{core}.{name}": function
    for core in ("core", "_core")
    for name, function in (
        ("multiarray._reconstruct", np.zeros(1).__reduce__()[0]),
        ("multiarray.scalar", np.float64(0).__reduce__()[0]),
        ("numeric._frombuffer", np.zeros(1).__reduce_ex__(5)[0]),
    )
}
_ALLOWED: dict[str, Any] = {
    **ARRAY_BUILDERS,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": _codecs.encode,
    "collections.OrderedDict": collections.OrderedDict,
}


class CodeInPickle(Exception):
    """A pickle names an object that is no part of an array; its text is the object's name."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in _ALLOWED:
            raise CodeInPickle(full_name)
        return _ALLOWED[full_name]


def load_numpy_pickle(file: IO[bytes]) -> Any:
    """Read one pickle of dicts, lists, numbers, strings and numpy arrays.

    Args:
        file: open for reading; Python 2 may have written it.

    Raises:
        CodeInPickle: the pickle asks for anything else.
    """
    return _ArrayUnpickler(file, encoding="latin1").load()
