"""Files are there whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from clq.utils import atomic_write
from clq.utils.atomic_write import open_atomically, write_atomically
from reference.spoiling import largest_file


def test_the_content_replaces_what_was_there(tmp_path: Path):
    path = tmp_path / "new" / "file.bin"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["file.bin"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    monkeypatch.setattr(atomic_write.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file.bin"]


def test_an_error_inside_leaves_nothing(tmp_path: Path):
    with pytest.raises(ValueError), open_atomically(tmp_path / "file.bin") as file:
        file.write(b"half")
        raise ValueError
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_disk_names_the_file(tmp_path: Path):
    path = tmp_path / "file.bin"
    with largest_file(9), pytest.raises(OSError) as error:
        write_atomically(path, b"0123456789")
    assert str(error.value) == f"[Errno {errno.EFBIG}] File too large: '{path}'"
    assert os.listdir(tmp_path) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as error, open_atomically(tmp_path / "file.bin"):
        (tmp_path / "other.bin").read_bytes()
    assert error.value.filename == str(tmp_path / "other.bin")


def test_the_name_appears_at_the_end(tmp_path: Path):
    with open_atomically(tmp_path / "file.bin") as file:
        file.write(b"all")
        assert not (tmp_path / "file.bin").exists()
    assert (tmp_path / "file.bin").read_bytes() == b"all"


@pytest.mark.parametrize("umask, mode", [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_permissions_follow_the_umask(umask: int, mode: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file.bin", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file.bin").stat().st_mode & 0o777 == mode


def test_a_name_of_any_length_can_be_written(tmp_path: Path):
    write_atomically(tmp_path / ("\u00e9" * 125), b"all")
    assert (tmp_path / ("\u00e9" * 125)).read_bytes() == b"all"
