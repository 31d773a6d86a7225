"""Detectors in ``.safetensors``: what goes in comes out."""

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from clq.checkpoint.safetensors_file import read_safetensors, write_safetensors

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4).t(),
    "b": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "c": torch.tensor(3),
}


def test_all_comes_back(tmp_path: Path):
    path = tmp_path / "new" / "detector.safetensors"
    write_safetensors(path, TENSORS, config="KEY: 1\n", class_names=["tree", "Bäume"])
    content = read_safetensors(path)
    assert content["config"] == "KEY: 1\n" and content["class_names"] == ["tree", "Bäume"]
    assert content["model"].keys() == TENSORS.keys()
    assert all(content["model"][name].equal(value) for name, value in TENSORS.items())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_stays_whole_where_writing_fails(tmp_path: Path):
    path = tmp_path / "detector.safetensors"
    write_safetensors(path, TENSORS, config="", class_names=[])
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        write_safetensors(path, {"a": torch.ones(2).to_sparse()}, config="", class_names=[])
    assert path.read_bytes() == before


def test_another_file_is_refused(tmp_path: Path):
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(SafetensorError):
        read_safetensors(tmp_path / "text.safetensors")
