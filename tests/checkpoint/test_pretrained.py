"""``clq://`` addresses, wherever Detectron2 opens a file."""

import re
from pathlib import Path
from typing import Any

import pytest
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from clq.checkpoint import pretrained
from reference.tiny import CONFIG


@pytest.fixture
def known_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[int]]:
    """The address of a file, and a list that grows when the file is fetched."""
    fetched: list[int] = []

    def fetch() -> Path:
        fetched.append(len(fetched))
        path = tmp_path / "weights.pth"
        path.write_bytes(b"weights")
        return path

    monkeypatch.setitem(pretrained._FILES, "weights.pth", fetch)
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
    pretrained.register_path_handler()
    assert PathManager.isfile("clq://mobilenet_v2.pth")


# ----------------------------------------------------------------------------------- from the web


class Web(PathHandler):
    """Stands in for the web: writes what it is asked for into a file of that name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def _get_supported_prefixes(self) -> list[str]:
        return ["http://", "https://"]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self.asked.append(path)
        if "nowhere" in path:
            raise OSError("HTTP Error 404: Not Found")
        file = self.folder / path.rpartition("/")[2]
        file.write_text(path)
        return str(file)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """What takes the place of Detectron2's own way to the web."""
    web = Web(tmp_path)
    handlers = PathManager._path_handlers.copy()
    handlers["https://"] = web
    monkeypatch.setattr(PathManager, "_path_handlers", handlers)
    return web


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (
            "clq://torchvision/ResNet101_Weights.IMAGENET1K_V1",
            "https://download.pytorch.org/models/resnet101-63fe2227.pth",
        ),
        (
            "clq://torchvision/ResNeXt101_32X8D_Weights.IMAGENET1K_V1",
            "https://download.pytorch.org/models/resnext101_32x8d-8ba56ff5.pth",
        ),
        (
            "clq://timm/resnext101_32x4d.gluon_in1k",
            "https://huggingface.co/timm/resnext101_32x4d.gluon_in1k/resolve/main/"
            "model.safetensors",
        ),
    ],
)
def test_weights_of_torchvision_and_timm(address: str, url: str, web: Web):
    assert PathManager.isfile(address) and web.asked == []
    path = Path(PathManager.get_local_path(address))
    assert web.asked == [url]
    assert path.suffix == Path(url).suffix, "the ending tells the format"


@pytest.mark.parametrize(
    "address",
    [
        "clq://torchvision/ResNet7_Weights.V1",
        "clq://torchvision/R",
        "clq://timm/",
        "clq://timm/a/b",
    ],
)
def test_names_that_neither_has_are_refused(address: str, web: Web):
    assert not PathManager.isfile(address)
    with pytest.raises(ValueError, match=f"{address} is not known; .*clq://timm/ with a model"):
        PathManager.get_local_path(address)
    assert web.asked == []


def test_what_the_web_does_not_have_is_told_with_its_address(web: Web):
    with pytest.raises(OSError, match="clq://timm/nowhere could not be fetched from https://hug"):
        PathManager.get_local_path("clq://timm/nowhere")


def test_every_address_of_the_configs_is_known():
    found = [
        address
        for file in CONFIG.parent.rglob("*.yaml")
        for address in re.findall(r'"(clq://[^"]+)"', file.read_text())
    ]
    assert len(found) >= 5 and all(map(PathManager.isfile, found))
