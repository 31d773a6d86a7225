"""State of all random number generators that training uses."""

import random
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng


def get_rng_state() -> dict[str, Any]:
    """Return the states of Python, NumPy, PyTorch and CUDA, in types that load as weights."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    state = {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # asking for the state would initialize CUDA
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore the states that :func:`get_rng_state` returned on rank 0.

    Other ranks are seeded from them, each with a seed of its own.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
    if comm.get_rank() > 0:
        seed_all_rng(random.randrange(2**31) + comm.get_rank())
