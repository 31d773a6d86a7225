"""Running CLQ: configuration from the command line, processes, training."""

from .errors import exit_on_user_error
from .launch import launch
from .setup import build_config, clq_argument_parser, setup
from .trainer import AutocastTrainer, CLQTrainer

__all__ = [
    "AutocastTrainer",
    "CLQTrainer",
    "build_config",
    "clq_argument_parser",
    "exit_on_user_error",
    "launch",
    "setup",
]
