"""Merge config file, weights' own config and command line into one configuration."""

import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from ...checkpoint import WeightsFile
from ...config.errors import friendly_config_errors
from ...config.read_yaml import merge_config_file
from .options import RunOptions
from .weights_config import read_configured_weights

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# The config of a training on files of the user, who names none.
OWN_DATA_CONFIG = "clq_own_data"


def merge_config(cfg: CfgNode, options: RunOptions) -> WeightsFile | None:
    """Merge the config file, or else the config inside the weights, then the command line.

    Args:
        cfg: with all keys at their defaults; changed in place.
        options: of the run; a training on a JSON file that names neither a config nor weights is
            given ``OWN_DATA_CONFIG``.

    Returns:
        What the weights hold, if they are at hand.

    Raises:
        OSError: a file can't be read.
        ValueError: a file that is no config, an unknown key, or a value of another type.
    """
    _check_pairs(options)
    has_json = options.train or "DATASETS.TRAIN_JSON" in options.given
    is_bare = not options.config_file and "MODEL.WEIGHTS" not in options.given
    if has_json and is_bare and not options.eval_only:
        options.config_file = OWN_DATA_CONFIG
    if options.config_file:
        merge_config_file(cfg, find_config(options.config_file))
    weights = read_configured_weights(cfg, options)
    if weights and weights.config and not options.config_file:
        with friendly_config_errors(cfg, file=cfg.MODEL.WEIGHTS):
            cfg.merge_from_other_cfg(weights.config)
    cfg.DATASETS.TRAIN_JSON = tuple(options.train) or cfg.DATASETS.TRAIN_JSON
    cfg.DATASETS.VAL_JSON = tuple(options.val) or cfg.DATASETS.VAL_JSON
    cfg.MODEL.WEIGHTS = options.weights or cfg.MODEL.WEIGHTS
    cfg.OUTPUT_DIR = options.output_dir or cfg.OUTPUT_DIR
    with friendly_config_errors(cfg, keys=list(options.given)):
        cfg.merge_from_list(list(options.opts))
    expand = os.path.expanduser  # ~, which no shell does in a yaml
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = expand(cfg.OUTPUT_DIR), expand(cfg.MODEL.WEIGHTS)
    for key in ("TRAIN_JSON", "VAL_JSON"):
        cfg.DATASETS[key] = tuple(expand(str(path)) for path in cfg.DATASETS[key])
    return weights


def choices_made(options: RunOptions) -> list[str]:
    """Notes for the log on what was chosen for the user, or among what the user gave.

    Args:
        options: of the run, after :func:`merge_config`.
    """
    is_bare = options.config_file == OWN_DATA_CONFIG
    notes = [f"The config is {OWN_DATA_CONFIG}; --config names another."] if is_bare else []
    pairs = list(zip(options.opts[::2], options.opts[1::2]))
    for key, value in options.given.items():
        others = dict.fromkeys(str(v) for k, v in pairs if k == key and v != value)
        if others:
            notes.append(f"{key} is given twice: {value} is used, {', '.join(others)} is not.")
    return notes


def find_config(name: str) -> str:
    """Path of a config: a file, or else one that CLQ ships, by its name without suffix."""
    name = os.path.expanduser(name)
    if not name or "/" in name or name.endswith((".yaml", ".yml")) or Path(name).is_file():
        return name
    shipped = {path.stem: path for path in CONFIGS.rglob("*.yaml")}
    if name not in shipped:
        raise ValueError(
            f"CLQ has no config of the name '{name}'; it has {', '.join(sorted(shipped))}."
        )
    return str(shipped[name])


def _check_pairs(options: RunOptions) -> None:
    """Reject a flag among the keys, a key without a value, and one that is given twice."""
    misplaced = [text for text in options.opts if str(text).startswith("--")]
    if misplaced:
        raise ValueError(f"{misplaced[0]} stands among the configuration keys; put it before them.")
    if len(options.opts) % 2:
        raise ValueError(
            "configuration keys and values must come in pairs, but "
            f"'{options.opts[-1]}' is left over."
        )
    flags: dict[str, tuple[str, Sequence[str]]] = {
        "DATASETS.TRAIN_JSON": ("--train", options.train),
        "DATASETS.VAL_JSON": ("--val", options.val),
        "MODEL.WEIGHTS": ("--weights", options.weights),
        "OUTPUT_DIR": ("--output", options.output_dir),
    }
    for key in options.opts[::2]:
        flag, also_given = flags.get(key, ("", ""))
        if also_given:
            raise ValueError(f"{flag} and {key} are the same; give one of them.")
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        if key in options.given and (options.train or options.val):
            raise ValueError(
                f"{key} is given, but --train and --val replace the named data sets; leave one of "
                "them out."
            )
