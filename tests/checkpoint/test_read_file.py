"""Every format that is read, and errors for files that are not."""

import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clq.checkpoint.conversion import write_detector
from clq.checkpoint.read_file import normalize_path, read_file, validate_tensor

WEIGHTS = {"a": torch.arange(4.0), "b": torch.ones(2, 3)}


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.mkdir, (self.path,)


def assert_same(read: dict[str, Any]) -> None:
    assert read.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert torch.as_tensor(read[name]).equal(value)


@pytest.mark.parametrize(
    ("suffix", "zipped"),
    [("pth", True), ("pth", False), ("pt", True), ("pt", False), ("pkl", True), ("pkl", False)],
)
def test_pytorch_files(suffix: str, zipped: bool, tmp_path: Path):
    path = tmp_path / f"weights.{suffix}"
    torch.save({"model": WEIGHTS}, path, _use_new_zipfile_serialization=zipped)
    assert_same(read_file(path)["model"])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_an_old_pytorch_file_of_another_protocol(tmp_path: Path):
    path = tmp_path / "weights.pkl"
    options = {"_use_new_zipfile_serialization": False, "pickle_protocol": 3}
    torch.save({"model": WEIGHTS}, path, **options)
    assert_same(read_file(path)["model"])


def test_safetensors(tmp_path: Path):
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    content = read_file(tmp_path / "weights.safetensors")
    assert_same(content["model"])
    assert content.keys() == {"model"}


DETECTOR = {
    "a": torch.arange(12.0).reshape(3, 4).t(),
    "b": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "c": torch.tensor(3),
}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_detector_comes_back(suffix: str, tmp_path: Path):
    path = tmp_path / "new" / f"detector.{suffix}"
    write_detector(path, DETECTOR, "KEY: 1\n", ["tree", "Bäume"])
    content = read_file(path)
    assert content["config"] == "KEY: 1\n" and content["class_names"] == ["tree", "Bäume"]
    assert content["model"].keys() == DETECTOR.keys()
    assert all(content["model"][name].equal(value) for name, value in DETECTOR.items())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_other_readers_of_safetensors_read_a_detector(tmp_path: Path):
    write_detector(tmp_path / "a.safetensors", DETECTOR, "", [])
    assert load_file(tmp_path / "a.safetensors")["a"].equal(DETECTOR["a"])


def test_a_file_stays_as_it_was_where_writing_fails(tmp_path: Path):
    path = tmp_path / "detector.safetensors"
    write_detector(path, DETECTOR, "", [])
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        write_detector(path, {"a": torch.ones(2).to_sparse()}, "", [])
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_pickles_of_arrays(suffix: str, tmp_path: Path):
    content = {"model": {name: value.numpy() for name, value in WEIGHTS.items()}}
    path = tmp_path / f"zoo.{suffix}"
    path.write_bytes(pickle.dumps(content, 2))
    assert_same(read_file(path)["model"])


# As Python 2 wrote {"w": numpy.arange(2, dtype="f4")}.
PYTHON_2 = (
    b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
    b"K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f4q\n"
    b"K\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb"
    b"\x89U\x08\x00\x00\x00\x00\x00\x00\x80?q\x0ftq\x10bs."
)


def test_arrays_of_python_2(tmp_path: Path):
    (tmp_path / "zoo.pkl").write_bytes(PYTHON_2)
    assert read_file(tmp_path / "zoo.pkl")["w"].tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_any_protocol(protocol: int, tmp_path: Path):
    content = OrderedDict(a=np.arange(6.0).reshape(2, 3), b=np.float32(2), c="text", d=[1, None])
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(content, protocol))
    read = read_file(tmp_path / "zoo.pkl")
    assert np.array_equal(read["a"], content["a"]) and read["b"] == 2 and read["d"] == [1, None]


def test_numbers_of_numpy_beside_the_weights(tmp_path: Path):
    beside = {"lr": np.float64(0.5), "seen": np.arange(3)}
    torch.save({"model": WEIGHTS, **beside}, tmp_path / "weights.pth")
    assert read_file(tmp_path / "weights.pth")["lr"] == 0.5


WRITE_AS_MMENGINE = """
import sys, types, torch
module = types.ModuleType("mmengine.logging.history_buffer")
class HistoryBuffer:
    def min(self): ...
HistoryBuffer.__module__ = module.__name__
module.HistoryBuffer = HistoryBuffer
for name in ("mmengine", "mmengine.logging"):
    sys.modules[name] = types.ModuleType(name)
sys.modules[module.__name__] = module
history = HistoryBuffer()
history.methods = {"min": HistoryBuffer.min}
torch.save({"state_dict": {"a": torch.ones(2)}, "message_hub": {"loss": history}}, sys.argv[1])
"""


def test_the_record_of_losses_of_mmengine_does_no_harm(tmp_path: Path):
    path = tmp_path / "epoch_1.pth"
    subprocess.run([sys.executable, "-c", WRITE_AS_MMENGINE, str(path)], check=True)
    assert read_file(path)["state_dict"]["a"].equal(torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pytorch_file_is_refused_unless_trusted(zipped: bool, tmp_path: Path):
    path, made = tmp_path / "attack.pth", tmp_path / "made"
    torch.save({"model": Attack(made)}, path, _use_new_zipfile_serialization=zipped)
    check_refusal(path, made)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", ["pkl", "pth"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_plain_pickle_is_refused_unless_trusted(
    suffix: str, protocol: int, tmp_path: Path
):
    path, made = tmp_path / f"attack.{suffix}", tmp_path / "made"
    path.write_bytes(pickle.dumps({"model": Attack(made)}, protocol))
    with pytest.raises(ValueError, match=r"attack\.\w+ is refused, .* the object \S+"):
        read_file(path)
    assert not made.exists()
    check_refusal(path, made)


@pytest.mark.parametrize("name", ["builtins eval", "numpy load", "numpy.core.multiarray fromfile"])
def test_what_is_near_an_array_is_code_too(name: str, tmp_path: Path):
    (tmp_path / "zoo.pkl").write_bytes(b"c" + name.replace(" ", "\n").encode() + b"\n.")
    with pytest.raises(ValueError, match=f"asks for the object {name.replace(' ', '.')} and could"):
        read_file(tmp_path / "zoo.pkl")


def check_refusal(path: Path, made: Path) -> None:
    with pytest.raises(ValueError) as error:
        read_file(path)
    message = str(error.value)
    assert message.startswith(f"{path} is refused, because it asks for the object ")
    assert "--unsafe" in message and "MODEL.TRUST_WEIGHTS True" in message
    assert "\n" not in message and not made.exists()
    read_file(path, trusted=True)
    assert made.is_dir()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.pkl", "x.safetensors", "x.bin"])
@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04half", b"PK\x03\x04"])
def test_files_that_are_none(name: str, content: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is not a checkpoint that PyTorch can read"):
        read_file(tmp_path / name)


@pytest.mark.parametrize(
    ("weights", "plain"),
    [
        ("a/b.pth", "a/b.pth"),
        ("file:///a/b.pth?x=1", "/a/b.pth"),
        ("https://a.org/b.pth?token=1", "https://a.org/b.pth?token=1"),
        ("clq://timm/resnet50", "clq://timm/resnet50"),
    ],
)
def test_normalize_pathes(weights: str, plain: str):
    assert normalize_path(weights) == plain


def test_no_file_and_no_dict(tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere.pth do not exist"):
        read_file(tmp_path / "nowhere.pth")
    torch.save(torch.ones(2), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match="tensor.pth is not a checkpoint: it holds a Tensor"):
        read_file(tmp_path / "tensor.pth")


def test_half_a_file_is_refused(tmp_path: Path):
    """As a full disk or a killed copy leaves it."""
    path = tmp_path / "half.pth"
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="half.pth is not a checkpoint"):
        read_file(path)


def test_a_trusted_file_may_need_a_module_that_is_not_here(tmp_path: Path):
    (tmp_path / "theirs.pkl").write_bytes(b"cno_such_module\nThing\n.")
    with pytest.raises(ValueError, match="theirs.pkl needs the module no_such_module"):
        read_file(tmp_path / "theirs.pkl", trusted=True)


def test_an_error_of_the_disk_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError("Permission denied")

    torch.save(WEIGHTS, tmp_path / "weights.pth")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(PermissionError):
        read_file(tmp_path / "weights.pth")


INVALID = {
    "is of int64, not of floating point": torch.ones(2, 2, dtype=torch.int64),
    "is of complex64, not of floating point": torch.ones(2, 2, dtype=torch.complex64),
    "has values that are not finite": torch.tensor([[1.0, torch.nan], [0.0, 0.0]]),
    "not dense": torch.eye(2).to_sparse(),
    "has the shape \\(2,\\), but must have 2 dimensions": torch.ones(2),
    "none of them empty": torch.ones(0, 2),
}


@pytest.mark.parametrize("reason", INVALID)
def test_a_tensor_that_no_layer_can_compute_with_is_rejected(reason: str):
    with pytest.raises(ValueError, match=f"the tensor a.weight .*{reason}"):
        validate_tensor("a.weight", INVALID[reason], dims=2)


@pytest.mark.parametrize("dtype", (torch.float16, torch.float32, torch.float64))
def test_a_weight_of_any_precision_is_valid(dtype: torch.dtype):
    validate_tensor("a.weight", torch.ones(2, 2, dtype=dtype), dims=2)
    validate_tensor("a.bias", torch.ones(2, dtype=dtype))
