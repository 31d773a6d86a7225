"""Damaged checkpoints are detected, and a run resumes from the one before."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from clq.checkpoint import CLQCheckpointer, write_detector
from clq.checkpoint.output_dir import find_last
from clq.checkpoint.read_file import CorruptedFileError, read_file

STATE = {"weight": torch.arange(6.0), "bias": torch.ones(2, dtype=torch.float64)}
SUFFIXES = ["pth", "safetensors"]


@pytest.fixture(params=SUFFIXES)
def detector(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"detector.{request.param}"
    write_detector(path, STATE, "KEY: 1\n", ["tree"])
    return path


def assert_same(read: dict[str, Any], expected: dict[str, Any]) -> None:
    torch.testing.assert_close(read["model"], expected["model"], rtol=0, atol=0)
    assert {**read, "model": None} == {**expected, "model": None}


def test_a_flipped_bit_is_noticed_or_changes_nothing(detector: Path):
    content, expected = detector.read_bytes(), read_file(detector)
    noticed = 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        detector.write_bytes(flipped)
        try:
            assert_same(read_file(detector), expected)
        except CorruptedFileError:
            noticed += 1
    assert noticed > len(content) / 3, "the others are padding and times"


def test_every_cut_is_noticed(detector: Path):
    content = detector.read_bytes()
    for size in (*range(0, len(content), 7), len(content) - 1):
        detector.write_bytes(content[:size])
        with pytest.raises(CorruptedFileError):
            read_file(detector)


def test_pytorch_alone_would_read_a_flipped_bit(tmp_path: Path):
    path = tmp_path / "foreign.pth"
    torch.save({"model": STATE}, path)
    content = bytearray(path.read_bytes())
    content[content.index(STATE["weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert not torch.load(path)["model"]["weight"].equal(STATE["weight"])
    with pytest.raises(CorruptedFileError, match="foreign.pth is damaged"):
        read_file(path)


def test_a_member_that_becomes_a_folder_is_damage(tmp_path: Path):
    """PyTorch reads nothing from it, and leaves the tensor's memory as it was."""
    path = tmp_path / "weights.pth"
    torch.save({"model": STATE}, path)
    content = bytearray(path.read_bytes())
    record = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/1"))
    content[record + 38] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CorruptedFileError, match="weights.pth is damaged"):
        read_file(path)


def test_what_only_reading_shows_is_damage_too(tmp_path: Path):
    """The name of a member is under no checksum."""
    checkpointer = CLQCheckpointer(torch.nn.Conv2d(1, 1, 1), str(tmp_path))
    for name in ("model_0000001", "model_0000002"):
        checkpointer.save(name)
    newest = tmp_path / "model_0000002.pth"
    newest.write_bytes(newest.read_bytes().replace(b"/data.pkl", b"/data.pkm"))
    last = find_last(tmp_path)
    assert last is not None and last.path.name == "model_0000001.pth"
    assert last.damage == [f"{newest} is damaged: its bytes are not those that were written."]


def test_a_damaged_checkpoint_of_an_earlier_commit_is_noticed(tmp_path: Path):
    """Earlier commits kept a hash in the comment of the archive; its members have CRCs too."""
    path = tmp_path / "model_0000399.pth"
    shutil.copy(Path(__file__).parent / "fixtures" / path.name, path)
    content = bytearray(path.read_bytes())
    assert b"sha256:" in content[-80:]
    content[content.index(b"head.scales")] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptedFileError, match="is damaged"):
        read_file(path)
