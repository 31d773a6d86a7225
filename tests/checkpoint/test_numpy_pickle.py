"""Pickles of arrays are read, all others refused before they run."""

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clq.checkpoint.numpy_pickle import CodeInPickle, load_numpy_pickle

# As Python 2 wrote {"w": numpy.arange(2, dtype="f4")}.
PYTHON_2 = (
    b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
    b"K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f4q\n"
    b"K\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb"
    b"\x89U\x08\x00\x00\x00\x00\x00\x00\x80?q\x0ftq\x10bs."
)


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_are_read(protocol: int):
    content = OrderedDict(a=np.arange(6.0).reshape(2, 3), b=np.float32(2), c="text", d=[1, None])
    read = load_numpy_pickle(io.BytesIO(pickle.dumps(content, protocol)))
    assert np.array_equal(read["a"], content["a"]) and read["b"] == 2 and read["d"] == [1, None]


def test_arrays_of_python_2_are_read():
    assert load_numpy_pickle(io.BytesIO(PYTHON_2))["w"].tolist() == [0, 1]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_named_and_not_run(protocol: int, tmp_path: Path):
    content = pickle.dumps({"model": Attack(tmp_path / "made")}, protocol)
    with pytest.raises(CodeInPickle, match="mkdir"):
        load_numpy_pickle(io.BytesIO(content))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["builtins eval", "numpy load", "numpy.core.multiarray fromfile"])
def test_what_is_near_an_array_is_code_too(name: str):
    content = b"c" + name.replace(" ", "\n").encode() + b"\n."
    with pytest.raises(CodeInPickle, match=name.replace(" ", ".")):
        load_numpy_pickle(io.BytesIO(content))
