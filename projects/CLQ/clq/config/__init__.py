"""The configuration: keys and defaults, validation, and its form inside a checkpoint."""

from .defaults import add_clq_config, check_config, check_training_config, get_clq_cfg, leaves
from .unread import check_unread_by_run

__all__ = [
    "add_clq_config",
    "check_config",
    "check_training_config",
    "check_unread_by_run",
    "get_clq_cfg",
    "leaves",
]
