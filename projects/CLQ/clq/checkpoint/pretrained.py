"""``clq://`` addresses for ``MODEL.WEIGHTS``.

``clq://mobilenet_v2.pth`` comes from the package index,
``clq://torchvision/ResNet101_Weights.IMAGENET1K_V1`` from where torchvision keeps the weights of
that name, ``clq://timm/resnext101_32x4d.gluon_in1k`` from timm's repository of that name.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torchvision
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from .torchvision_weights import write_mobilenet_v2_checkpoint

_PREFIX = "clq://"
_FILES: dict[str, Callable[[], Path]] = {"mobilenet_v2.pth": write_mobilenet_v2_checkpoint}
_TORCHVISION, _TIMM = "torchvision/", "timm/"
_TIMM_URL = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"


class CLQPathHandler(PathHandler):
    """Fetches pretrained backbones on first use and keeps them."""

    def _get_supported_prefixes(self) -> list[str]:
        return [_PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """
        Raises:
            OSError: the file can't be fetched.
            ValueError: no such address.
        """
        name = path.removeprefix(_PREFIX)
        if name in _FILES:
            return str(_FILES[name]())
        url = _url_of(name)
        if url is None:
            raise ValueError(
                f"{path} is not known; there is {_PREFIX}{', '.join(_FILES)}, "
                f"{_PREFIX}{_TORCHVISION} with the name of torchvision's weights, such as "
                f"ResNet50_Weights.IMAGENET1K_V1, and {_PREFIX}{_TIMM} with a model of timm."
            )
        try:
            return PathManager.get_local_path(url, force=force)
        except OSError as error:
            raise OSError(f"{path} could not be fetched from {url} ({error}).") from error

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        name = path.removeprefix(_PREFIX)
        return name in _FILES or _url_of(name) is not None

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return self._isfile(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering)


def _url_of(name: str) -> str | None:
    """Where the weights of an address lie on the web; None if there are none of that name."""
    if name.startswith(_TORCHVISION):
        try:
            return torchvision.models.get_weight(name.removeprefix(_TORCHVISION)).url
        except (AttributeError, ValueError):
            return None
    model = name.removeprefix(_TIMM)
    return _TIMM_URL.format(model) if re.fullmatch(rf"{_TIMM}[\w.-]+", name) else None


def register_path_handler() -> None:
    """Make ``clq://`` known wherever Detectron2 opens a file."""
    PathManager.register_handler(CLQPathHandler(), allow_override=True)
