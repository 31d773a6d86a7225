"""Running CLQ: configuration from the command line, processes, training."""

from .distributed.cluster_env import detect_launcher, is_local_rank_zero
from .distributed.launch import launch, run_in_process_group
from .run_config.options import RunOptions, clq_argument_parser
from .run_config.setup import build_config, device_of, setup
from .train_step import TrainingStep
from .trainer import CLQTrainer
from .user_errors import defer_peer_errors, exit_on_user_error, print_output

__all__ = [
    "CLQTrainer",
    "RunOptions",
    "TrainingStep",
    "build_config",
    "clq_argument_parser",
    "defer_peer_errors",
    "detect_launcher",
    "device_of",
    "exit_on_user_error",
    "is_local_rank_zero",
    "launch",
    "print_output",
    "run_in_process_group",
    "setup",
]
