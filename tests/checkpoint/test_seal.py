"""Damage to a checkpoint is noticed, wherever it lies."""

from pathlib import Path

import pytest
import torch

from clq.checkpoint.read_file import read_file
from clq.checkpoint.seal import DamagedFile, check_intact, seal

CONTENT = {"model": {"weight": torch.arange(6.0)}, "step": 3}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.pth"
    with path.open("w+b") as file:
        torch.save(CONTENT, file)
        seal(file)
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    torch.save(CONTENT, tmp_path / "foreign.pth")
    return tmp_path / "foreign.pth"


def test_a_sealed_file_is_a_file_of_pytorch(sealed: Path):
    check_intact(sealed, must_be_sealed=True)
    content = torch.load(sealed)
    assert content["step"] == 3 and content["model"]["weight"].equal(CONTENT["model"]["weight"])


def test_every_flipped_bit_is_noticed(sealed: Path):
    content = sealed.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        sealed.write_bytes(flipped)
        with pytest.raises(DamagedFile, match="sealed.pth is damaged"):
            check_intact(sealed, must_be_sealed=True)


def test_every_cut_is_noticed(sealed: Path):
    content = sealed.read_bytes()
    for size in (*range(0, len(content), 37), len(content) - 1):
        sealed.write_bytes(content[:size])
        with pytest.raises(DamagedFile):
            check_intact(sealed, must_be_sealed=True)


def test_a_file_without_a_seal_is_checked_by_its_members(foreign: Path):
    check_intact(foreign)
    with pytest.raises(DamagedFile):
        check_intact(foreign, must_be_sealed=True)
    content = bytearray(foreign.read_bytes())
    content[content.index(CONTENT["model"]["weight"].numpy().tobytes()) + 5] ^= 1
    foreign.write_bytes(content)
    assert not torch.load(foreign)["model"]["weight"].equal(CONTENT["model"]["weight"])
    with pytest.raises(DamagedFile):
        check_intact(foreign)
    with pytest.raises(DamagedFile, match="foreign.pth is damaged"):
        read_file(foreign)
