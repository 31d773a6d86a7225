"""Merge config file, weights' own config and command line into one configuration."""

from pathlib import Path

from detectron2.config import CfgNode

from ...checkpoint import WeightsFile
from ...config.read_yaml import check_config_file
from .config_errors import explain_refusals
from .options import RunOptions
from .weights_config import read_configured_weights

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def merge_config(cfg: CfgNode, options: RunOptions) -> WeightsFile | None:
    """Merge the config file, or else the config inside the weights, then the command line.

    Args:
        cfg: with all keys at their defaults; changed in place.
        options: of the run.

    Returns:
        What the weights hold, if they are at hand.

    Raises:
        OSError: a file can't be read.
        ValueError: a file that is no config, an unknown key, or a value of another type.
    """
    _check_pairs(options)
    if options.config_file:
        with explain_refusals(cfg, file=options.config_file):
            path = find_config(options.config_file)
            check_config_file(path)
            # A yaml could run code otherwise.
            cfg.merge_from_file(path, allow_unsafe=False)
    weights = read_configured_weights(cfg, options)
    if weights and weights.config and not options.config_file:
        with explain_refusals(cfg, file=cfg.MODEL.WEIGHTS):
            cfg.merge_from_other_cfg(weights.config)
    cfg.DATASETS.TRAIN_JSON = tuple(options.train) or cfg.DATASETS.TRAIN_JSON
    cfg.DATASETS.VAL_JSON = tuple(options.val) or cfg.DATASETS.VAL_JSON
    cfg.MODEL.WEIGHTS = options.weights or cfg.MODEL.WEIGHTS
    cfg.OUTPUT_DIR = options.output_dir or cfg.OUTPUT_DIR
    with explain_refusals(cfg, keys=list(options.given)):
        cfg.merge_from_list(list(options.opts))
    return weights


def find_config(name: str) -> str:
    """Path of a config: a file, or else one that CLQ ships, by its name without suffix."""
    if not name or "/" in name or name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return name
    shipped = {path.stem: path for path in CONFIGS.rglob("*.yaml")}
    if name not in shipped:
        raise ValueError(
            f"CLQ has no config of the name '{name}'; it has {', '.join(sorted(shipped))}."
        )
    return str(shipped[name])


def _check_pairs(options: RunOptions) -> None:
    """
    Raises:
        ValueError: a flag stands among the keys, or a key has no value.
    """
    misplaced = [text for text in options.opts if str(text).startswith("--")]
    if misplaced:
        raise ValueError(f"{misplaced[0]} stands among the configuration keys; put it before them.")
    if len(options.opts) % 2:
        raise ValueError(
            "configuration keys and values must come in pairs, but "
            f"'{options.opts[-1]}' is left over."
        )
    flags = {"MODEL.WEIGHTS": ("--weights", options.weights)}
    flags["OUTPUT_DIR"] = ("--output", options.output_dir)
    for key in options.opts[::2]:
        flag, value = flags.get(key, ("", ""))
        if value:
            raise ValueError(f"{flag} and {key} are the same; give one of them.")
