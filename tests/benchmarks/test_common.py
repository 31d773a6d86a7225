"""Helpers that all benchmarks share."""

import math
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks import common


def test_a_function_runs_in_a_process_of_its_own():
    assert common.run_apart(math.hypot, 3, 4) == 5
    with pytest.raises(ValueError):
        common.run_apart(math.sqrt, -1)
    assert common.run_apart(torch.get_num_threads, threads=1) == 1


def test_a_device_has_a_name(monkeypatch: pytest.MonkeyPatch):
    assert common.device_name("cpu").endswith(f", {torch.get_num_threads()} threads")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    assert common.device_name("cuda:1") == "a GPU, cuda:1"


def test_commit_tells_when_the_code_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert common.commit() == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for name in ("configs/a.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = common.commit()
    assert len(clean) >= 7 and "-" not in clean
    (tmp_path / "README.md").write_text("two")
    assert common.commit() == clean
    (tmp_path / "configs/a.yaml").write_text("two")
    assert common.commit() == f"{clean}-dirty"
