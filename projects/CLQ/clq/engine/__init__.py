"""Running CLQ: configuration from the command line, processes, training."""

from .distributed.cluster_env import find_place, is_first_of_machine
from .distributed.launch import join, launch
from .run_config.setup import build_config, clq_argument_parser, device_of, setup
from .train_step import TrainingStep
from .trainer import CLQTrainer
from .user_errors import exit_on_user_error, speak_in_turn

__all__ = [
    "CLQTrainer",
    "TrainingStep",
    "build_config",
    "clq_argument_parser",
    "device_of",
    "exit_on_user_error",
    "find_place",
    "is_first_of_machine",
    "join",
    "launch",
    "setup",
    "speak_in_turn",
]
