"""Two runs at once in one folder: the second is refused, with who holds it."""

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from clq.engine.run_config.folder_lock import LOCK, lock_folder, unlock_folders
from reference.forks import ForkedProgram

HOLD = """
import sys, time
from pathlib import Path
from clq.engine.run_config.folder_lock import lock_folder
lock_folder(Path(sys.argv[1])); print("locked", flush=True); time.sleep(60)
"""


@pytest.fixture(autouse=True)
def unlocked() -> Iterator[None]:
    yield
    unlock_folders()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[BaseProcess]:
    """Another process that runs in the folder."""
    output, pipe = multiprocessing.Pipe(duplex=False)
    program = ForkedProgram(HOLD, tmp_path, stdout=pipe)
    assert os.read(output.fileno(), 6) == b"locked"
    yield program.process
    program.process.kill()
    program.wait()


def test_another_process_is_refused_until_the_first_ends(holder: BaseProcess, tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(ValueError, match=f"^process {holder.pid} on .* wait for its end"):
            lock_folder(folder)
    holder.kill()
    holder.join()
    assert (tmp_path / LOCK).exists(), "a stale file"
    lock_folder(tmp_path)


def test_one_process_may_run_again_and_leaves_nothing(tmp_path: Path):
    lock_folder(tmp_path)
    lock_folder(tmp_path)
    unlock_folders()
    assert not os.listdir(tmp_path)
    lock_folder(tmp_path)


def test_a_lock_without_a_process_is_no_obstacle(tmp_path: Path):
    (tmp_path / LOCK).write_text("process 1 on elsewhere, and more")
    lock_folder(tmp_path)
    assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / LOCK).symlink_to("mine")
    with pytest.raises(OSError):
        lock_folder(tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_that_is_gone_needs_no_unlocking(tmp_path: Path):
    folder = tmp_path / "output"
    folder.mkdir()
    lock_folder(folder)
    (folder / LOCK).unlink()
    folder.rmdir()
    folder.touch()
    unlock_folders()
    assert folder.is_file()
