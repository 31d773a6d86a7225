"""Running CLQ: configuration from the command line, processes, training."""

from .environment import find_place, is_first_of_machine
from .errors import exit_on_user_error, speak_in_turn
from .launch import join, launch
from .setup import build_config, clq_argument_parser, device_of, setup
from .step import TrainingStep
from .trainer import CLQTrainer

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
