"""CLQ: one-stage object detection ranked by a joint score of class and localization quality.

Importing this package imports neither PyTorch nor Detectron2; the first use of a name does.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Detector, evaluate, load, train
    from .config import add_clq_config, get_clq_cfg
    from .exporting.run import export

__version__ = "0.1.0"
__all__ = ["Detector", "add_clq_config", "evaluate", "export", "get_clq_cfg", "load", "train"]

NO_DETECTRON2 = (
    "clq needs Detectron2, which is not installed: run `make setup` in a clone of CLQ, or "
    "install Detectron2 from its own repository into this environment."
)
_HOME = {
    **dict.fromkeys(("Detector", "evaluate", "load", "train"), ".api"),
    **dict.fromkeys(("add_clq_config", "get_clq_cfg"), ".config"),
    "export": ".exporting.run",
}
# Importing these registers with Detectron2 what a config may name.
_REGISTERING = (".checkpoint", ".data", ".modeling")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'clq' has no attribute '{name}'")
    if importlib.util.find_spec("detectron2") is None:
        raise ImportError(NO_DETECTRON2)
    for module in _REGISTERING:
        importlib.import_module(module, __name__)
    return getattr(importlib.import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
