"""The command ``clq``, and the code behind train_net.py and tools/.

Importing this package prepares the process, those that a run spawns included: it sets how PyTorch
runs on CPU, and drops messages that a user can do nothing about. A library would not decide on
these. PyTorch reads the variables once, when it is imported; a user's own values stay.
"""

import logging
import os
import warnings

# Threads that wait sleep, instead of taking the core that another thread or process needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Large tensors lie on huge pages: fewer page faults, a faster step.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# A log whose terminal is gone is still written to the file.
logging.raiseExceptions = False
# Detectron2 and fvcore cause these on every run.
for _message in (
    ".torch.jit.script. is deprecated",
    "The given NumPy array is not writable",
    "TypedStorage is deprecated",
    "`broadcast_buffers` is deprecated",  # whose new name is unknown to older versions of PyTorch
):
    warnings.filterwarnings("ignore", message=_message)
