"""Configuration of an evaluation whose weights are an exported file."""

import os

from ...checkpoint import WeightsFile
from ...checkpoint.read_file import no_weights
from ...config.serialize import parse_config
from ...runtime.sessions import open_session
from .options import RunOptions

# Of MODEL.CLQ: what is decided behind the graph.
_AFTER_GRAPH = ("SCORE_THRESH_TEST", "NMS_THRESH_TEST", "TOPK_CANDIDATES_TEST")
_FREE_KEYS = {"MODEL.WEIGHTS", *(f"MODEL.CLQ.{key}" for key in _AFTER_GRAPH)}


def read_exported(path: str, options: RunOptions) -> WeightsFile:
    """Read configuration and class names of an exported file; it has no tensors.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no exported detector, or an option would change its graph.
    """
    if not os.path.isfile(path):
        raise ValueError(no_weights(path))
    if options.config_file:
        raise ValueError(
            f"{path} is an exported file, which has its own configuration; leave --config out."
        )
    for key, value in options.given.items():
        is_fixed = key.startswith("MODEL.") or key == "INPUT.FORMAT"
        is_on_cpu = key == "MODEL.DEVICE" and value == "cpu"
        if is_fixed and key not in _FREE_KEYS and not is_on_cpu:
            raise ValueError(
                f"{key} is {value}, but the graph of an exported file is fixed and runs on CPU; "
                f"leave it out, or evaluate the checkpoint that {path} was exported from."
            )
    metadata = open_session(path).metadata
    class_names = list(metadata.settings.class_names)
    config = parse_config(metadata.config)
    return WeightsFile("detector", {}, config=config, class_names=class_names)
