"""The command ``clq``, and the code behind train_net.py and tools/.

Importing this package prepares the process, those that a run spawns included.
"""

from .process import prepare_process

prepare_process()
