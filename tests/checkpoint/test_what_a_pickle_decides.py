"""A file of arrays can't make numpy follow an address, nor exhaust the stack or the clock."""

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clq.checkpoint.read_file import read_file

RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
FROMBUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
ADDRESS = struct.pack("<Q", 0x424242424240)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


OBJECTS = Call(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))
VOID_STATE = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
FORGED = {
    "object": Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), OBJECTS, False, ADDRESS)),
    "field": Call(
        RECONSTRUCT,
        (np.ndarray, (0,), b"b"),
        (1, (1,), Call(np.dtype, ("V8", False, True), VOID_STATE), False, ADDRESS),
    ),
    "changed kind": Call(
        RECONSTRUCT,
        (np.ndarray, (0,), b"b"),
        (1, (1,), Call(np.dtype, ("f8", False, True), VOID_STATE), False, ADDRESS[:4]),
    ),
    "number": Call(SCALAR, (OBJECTS, ADDRESS)),
    "buffer": Call(FROMBUFFER, (ADDRESS, OBJECTS, (1,), "C")),
    "shape": Call(np.ndarray, ((2**40,), "O")),
    "too few bytes": Call(
        RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (2**40,), np.dtype("f4"), False, ADDRESS)
    ),
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("is_archive", [False, True])
def test_a_forged_array_is_no_pointer(name: str, is_archive: bool, tmp_path: Path):
    path = tmp_path / "a.pth"
    content = {"model": {"a": FORGED[name]}}
    if is_archive:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    try:
        found = read_file(path)["model"]["a"]
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert found.dtype.kind == "f" or not found.size


DEEP = b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"K\x01s."
# A tuple of itself twice, 60 times over: its hash takes years.
SHARED = b"\x80\x02})" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"K\x01s."
MARKED = b"\x80\x02})" + b"".join(b"q\x01(h\x01h\x01h\x01t" for _ in range(40)) + b"K\x01s."


@pytest.mark.parametrize("content", [DEEP, SHARED, MARKED], ids=["deep", "shared", "marked"])
@pytest.mark.parametrize("is_archive", [False, True])
def test_tuples_without_end_are_refused(content: bytes, is_archive: bool, tmp_path: Path):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    if is_archive:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a/data.pkl", content)
            archive.writestr("a/version", "3")
        path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="a.pth is refused: it holds tuples in tuples without end"):
        read_file(path)


def test_bytes_that_no_memory_holds_are_refused(tmp_path: Path):
    plain, archive = tmp_path / "plain.pth", tmp_path / "archive.pth"
    plain.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".")
    torch.save({"model": {"a": Call(bytearray, (2**62,))}}, archive)
    for path in (plain, archive):
        with pytest.raises(ValueError, match=f"{path.name} is not a checkpoint that PyTorch can"):
            read_file(path)


def test_plain_arrays_come_back(tmp_path: Path):
    arrays = {k: np.arange(6).reshape(2, 3).astype(k) for k in ("f2", "<f4", ">f8", "u1", "i8")}
    arrays["fortran"] = np.asfortranarray(arrays["<f4"])
    for protocol in (2, 4, 5):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": arrays}, protocol=protocol))
        found = read_file(tmp_path / "a.pkl")["model"]
        for name, array in arrays.items():
            assert found[name].dtype.kind == array.dtype.kind and (found[name] == array).all()


def test_a_name_stands_once_in_a_safetensors_header(tmp_path: Path):
    tensor = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    for header in (f"{{{tensor},{tensor}}}", f'{{"__metadata__":{{"a":"1","a":"2"}},{tensor}}}'):
        raw = header.encode()
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))
        with pytest.raises(ValueError, match="a.safetensors is not a checkpoint"):
            read_file(tmp_path / "a.safetensors")
