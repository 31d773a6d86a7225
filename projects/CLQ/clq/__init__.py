"""CLQ: one-stage object detection ranked by a joint score of class and localization quality."""

import importlib.util
import os
import warnings

# How PyTorch runs on CPU; it reads these when it loads, and a user's own values stand.
# Threads that wait sleep, instead of taking the core that another thread or process needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Large tensors lie on huge pages: fewer page faults, a faster step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if importlib.util.find_spec("detectron2") is None:
    raise ImportError(
        "clq needs Detectron2, which is not installed: run `make setup` in a clone of CLQ, or "
        "install Detectron2 from its own repository into this environment."
    )

# Detectron2 and fvcore cause these on every run, and a user can do nothing about them.
warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated")
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
# The name that PyTorch gives the option from now on is unknown to the versions before.
warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")

from . import checkpoint, data, modeling  # noqa: E402, F401  they register what configs name
from .config import add_clq_config, get_clq_cfg  # noqa: E402

__all__ = ["add_clq_config", "get_clq_cfg"]
