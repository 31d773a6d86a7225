"""Rebuild pickled arrays of plain numbers, without anything that numpy must believe.

A pickled dtype of objects makes numpy follow addresses that the file holds, so neither numpy's
dtype nor its functions that rebuild arrays see a file's arguments unchecked.
"""

import collections
import pickle
import pickletools
from typing import IO, Any

import numpy as np

_KINDS = "fiub"  # floating point, integers, bool
_LARGEST = 10_000  # parts of a tuple, with those of tuples inside


class UnsafePickleError(Exception):
    """A pickle asks for an object that could run code; the message is the object's name."""


class UnplainValueError(ValueError):
    """A pickle of arrays holds something else; the message says what."""


class _Kind:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or np.dtype(code).kind not in _KINDS:
            raise UnplainValueError(f"an array of {str(code)[:20]!r}, which are no plain numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("no byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stands in for ``numpy.ndarray``."""

    def __new__(cls, *_: Any) -> "_Array":
        return super().__new__(cls, 0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        values: Any = (1, shape, kind.dtype, bool(is_fortran), _bytes(content))
        super().__setstate__(values)


def _bytes(content: Any) -> bytes:
    return content.encode("latin1") if isinstance(content, str) else bytes(memoryview(content))


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: _Kind, content: Any) -> Any:
    return np.frombuffer(_bytes(content), kind.dtype, count=1)[0]


def _frombuffer(content: Any, kind: _Kind, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(_bytes(content), kind.dtype).reshape(shape, order=order)  # type: ignore


def _encode(text: str, encoding: str = "") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("no bytes of Python 2")
    return text.encode("latin1")


# What a pickle of arrays may name; numpy's modules by the names of its releases 1 and 2.
ARRAY_GLOBALS: dict[str, Any] = {
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _frombuffer),
        )
    },
    "numpy.ndarray": _Array,
    "numpy.dtype": _Kind,
    "_codecs.encode": _encode,
    "collections.OrderedDict": collections.OrderedDict,
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler of arrays, which rejects every other object before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in ARRAY_GLOBALS:
            raise UnsafePickleError(full_name)
        return ARRAY_GLOBALS[full_name]


def check_tuples(file: IO[bytes]) -> None:
    """Refuse tuples in tuples without end, whose hash overflows the stack or takes years.

    Args:
        file: at the start of a pickle; afterwards at its end.

    Raises:
        UnplainValueError: a tuple has too many parts.
        Exception: of any kind; this is no pickle.
    """
    mark = -1
    stack: list[int] = []  # parts of each value; a mark is negative
    memo: dict[int, int] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
            continue
        if name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
            continue
        taken = _take(stack, opcode, mark)
        if name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name == "DUP":
            stack += taken * 2
        elif name == "MARK":
            stack.append(mark)
        elif name.startswith("TUPLE") or name == "FROZENSET":
            stack.append(1 + sum(taken))
            if stack[-1] > _LARGEST:
                raise UnplainValueError("tuples in tuples without end")
        else:  # lists and dictionaries have no hash
            stack += [1] * len(opcode.stack_after)


def _take(stack: list[int], opcode: Any, mark: int) -> list[int]:
    """Pop what an instruction of pickle takes."""
    before = opcode.stack_before
    taken: list[int] = []
    if pickletools.markobject in before:
        while (size := stack.pop()) != mark:
            taken.append(size)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        taken.append(stack.pop())
    return taken
