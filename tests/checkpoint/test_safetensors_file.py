"""Detectors in ``.safetensors``: what goes in comes out."""

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clq.checkpoint.safetensors_file import read_safetensors, write_safetensors
from clq.checkpoint.seal import DamagedFile

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


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path):
    path = tmp_path / "detector.safetensors"
    write_safetensors(path, TENSORS, config="KEY: 1\n", class_names=["tree"])
    content, before = path.read_bytes(), read_safetensors(path)
    passed = []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            read = read_safetensors(path)
        except (DamagedFile, SafetensorError):
            continue
        passed.append(place)
        assert {**read, "model": None} == {**before, "model": None}
        assert all(read["model"][name].equal(value) for name, value in TENSORS.items())
    name = content.index(b"sha256")  # without it, the file is as one of others
    assert set(passed) <= set(range(name, name + len("sha256")))


def test_a_cut_is_noticed(tmp_path: Path):
    path = tmp_path / "detector.safetensors"
    write_safetensors(path, TENSORS, config="", class_names=[])
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(SafetensorError):
            read_safetensors(path)


def test_files_of_others_are_read_without_a_hash(tmp_path: Path):
    path = tmp_path / "detector.safetensors"
    save_file({"a": torch.ones(2)}, path)
    assert read_safetensors(path)["model"]["a"].tolist() == [1, 1]
    write_safetensors(path, TENSORS, config="", class_names=[])
    assert load_file(path)["a"].equal(TENSORS["a"])
