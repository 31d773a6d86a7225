"""Settings of a process that runs a command; a library would not decide on them."""

import logging
import os
import warnings

# Detectron2 and fvcore cause these on every run, and a user can do nothing about them.
_WARNINGS = (
    ".torch.jit.script. is deprecated",
    "The given NumPy array is not writable",
    "TypedStorage is deprecated",
    "`broadcast_buffers` is deprecated",  # whose new name is unknown to older versions of PyTorch
)


def prepare_process() -> None:
    """Set how PyTorch runs on CPU, and drop messages that a user can do nothing about.

    Must be called before PyTorch is imported, which reads these variables once. A user's own
    values stay.

    Raises:
        ImportError: Detectron2 is not installed.
    """
    # Threads that wait sleep, instead of taking the core that another thread or process needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Large tensors lie on huge pages: fewer page faults, a faster step.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # A log whose terminal is gone is still written to the file.
    logging.raiseExceptions = False
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
