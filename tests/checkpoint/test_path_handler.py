"""``clq://`` addresses, wherever Detectron2 opens a file."""

from pathlib import Path

import pytest
from detectron2.utils.file_io import PathManager

from clq.checkpoint import path_handler


@pytest.fixture
def known_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[int]]:
    """The address of a file, and a list that grows when the file is fetched."""
    fetched: list[int] = []

    def fetch() -> Path:
        fetched.append(len(fetched))
        path = tmp_path / "weights.pth"
        path.write_bytes(b"weights")
        return path

    monkeypatch.setitem(path_handler._FILES, "weights.pth", fetch)
    return "clq://weights.pth", fetched


def test_a_known_file_is_fetched_on_first_use(known_file: tuple[str, list[int]], tmp_path: Path):
    address, fetched = known_file
    assert PathManager.exists(address) and PathManager.isfile(address)
    assert fetched == []  # to ask for it is no use
    assert PathManager.get_local_path(address) == str(tmp_path / "weights.pth")
    assert len(fetched) == 1
    with PathManager.open(address, "rb") as file:
        assert file.read() == b"weights"
    with PathManager.open(address) as file:
        assert file.read() == "weights"


def test_an_unknown_file_is_refused_with_those_there_are():
    assert not PathManager.exists("clq://nowhere.pth")
    assert not PathManager.isfile("clq://nowhere.pth")
    with pytest.raises(ValueError, match="clq://nowhere.pth is not known; .*mobilenet_v2.pth"):
        PathManager.get_local_path("clq://nowhere.pth")


def test_the_backbone_of_the_demo_has_an_address():
    assert PathManager.isfile("clq://mobilenet_v2.pth")


def test_registering_twice_is_allowed():
    path_handler.register_path_handler()
    assert PathManager.isfile("clq://mobilenet_v2.pth")
