"""Choice of the checkpoint to resume from."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from clq.checkpoint import CLQCheckpointer
from clq.checkpoint.output_dir import (
    find_last,
    list_checkpoints,
    remove_checkpoints,
    remove_partial_files,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpointer = CLQCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))
    for name in ("model_0000003", "model_0000011", "model_0000007"):
        checkpointer.save(name)
    return tmp_path


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"weight")] ^= 1
    path.write_bytes(content)


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_the_pointer_goes_first_then_the_newest(folder: Path):
    (folder / "model_best.pth").touch()
    assert names(folder) == ["model_0000007.pth", "model_0000011.pth", "model_0000003.pth"]
    (folder / "last_checkpoint").write_bytes(b"\xff\x00")
    assert names(folder) == ["model_0000011.pth", "model_0000007.pth", "model_0000003.pth"]
    (folder / "last_checkpoint").unlink()
    (folder / "model_final.pth").touch()
    assert names(folder)[-1] == "model_final.pth"


def test_damaged_ones_are_passed_over(folder: Path):
    last = find_last(folder)
    assert last is not None and last.path.name == "model_0000007.pth" and not last.damage
    spoil(folder / "model_0000007.pth")
    (folder / "model_0000011.pth").write_bytes(b"")
    last = find_last(folder)
    assert last is not None and last.path.name == "model_0000003.pth"
    assert ["model_0000007.pth" in last.damage[0], "0000011" in last.damage[1]] == [True, True]


def test_where_all_are_damaged_nothing_is_started_anew(folder: Path):
    for path in list_checkpoints(folder):
        spoil(path)
    with pytest.raises(ValueError, match="no checkpoint to go on from .*another OUTPUT_DIR"):
        find_last(folder)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_lack_of_memory_is_no_damage(error: Exception, folder: Path, monkeypatch: Any):
    monkeypatch.setattr(torch, "load", Mock(side_effect=error))
    newest = list_checkpoints(folder)[0]
    with pytest.raises(ValueError, match=f"the memory does not suffice for {newest}, the newest"):
        find_last(folder)


def test_an_empty_folder_has_none(tmp_path: Path):
    assert find_last(tmp_path) is None and find_last(tmp_path / "nowhere") is None


def test_removal(folder: Path):
    (folder / ".model_0000015.pth.abc").touch()
    for name in ("log.txt", "model_final.safetensors", "model_best.safetensors"):
        (folder / name).touch()
    remove_partial_files(folder)
    assert not list(folder.glob(".*")) and len(names(folder)) == 3
    remove_checkpoints(folder)
    assert [path.name for path in folder.iterdir()] == ["log.txt"]
