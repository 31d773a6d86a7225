"""The configuration: keys and defaults, validation, and its form inside a checkpoint."""

from .defaults import add_clq_config, get_clq_cfg
from .unread import check_unread_by_run, flatten
from .validate import check_config, check_training_config

__all__ = [
    "add_clq_config",
    "check_config",
    "check_training_config",
    "check_unread_by_run",
    "get_clq_cfg",
    "flatten",
]
