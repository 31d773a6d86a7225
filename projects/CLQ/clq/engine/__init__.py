"""Running CLQ: configuration from the command line, processes, training."""

from ..utils.unprintable import print_output
from .distributed.launch import launch
from .run_config.options import RunOptions, clq_argument_parser
from .run_config.setup import build_config, setup
from .train_step import TrainingStep
from .trainer import CLQTrainer
from .user_errors import exit_on_user_error

__all__ = [
    "CLQTrainer",
    "RunOptions",
    "TrainingStep",
    "build_config",
    "clq_argument_parser",
    "exit_on_user_error",
    "launch",
    "print_output",
    "setup",
]
