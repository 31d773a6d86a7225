"""Every format that is read, and what is said of files that are not."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clq.checkpoint.read_file import plain_address, read_file

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


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_pickles_of_arrays(suffix: str, tmp_path: Path):
    content = {"model": {name: value.numpy() for name, value in WEIGHTS.items()}}
    path = tmp_path / f"zoo.{suffix}"
    path.write_bytes(pickle.dumps(content, 2))
    assert_same(read_file(path)["model"])


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


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("suffix", ["pkl", "pth"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_plain_pickle_is_refused_unless_trusted(
    suffix: str, protocol: int, tmp_path: Path
):
    path, made = tmp_path / f"attack.{suffix}", tmp_path / "made"
    path.write_bytes(pickle.dumps({"model": Attack(made)}, protocol))
    with pytest.raises(ValueError, match=r"attack\.\w+ is refused, .* the object \S+"):
        read_file(path)
    assert not made.exists()
    check_refusal(path, made)


def check_refusal(path: Path, made: Path) -> None:
    with pytest.raises(ValueError) as error:
        read_file(path)
    message = str(error.value)
    assert message.startswith(f"{path} is refused, because it asks for the object ")
    assert "--unsafe" in message and "MODEL.TRUST_WEIGHTS True" in message
    assert "\n" not in message and not made.exists()
    read_file(path, trusted=True)
    assert made.is_dir()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
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
def test_plain_addresses(weights: str, plain: str):
    assert plain_address(weights) == plain


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
