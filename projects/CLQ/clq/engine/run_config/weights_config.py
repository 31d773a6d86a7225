"""Configuration that weights imply: a detector's whole, a backbone's pixels."""

import argparse
import os
from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...checkpoint import (
    PIXEL_KEYS,
    WeightsFile,
    normalize_path,
    pixel_settings_of,
    read_weights,
)

__all__ = [
    "check_classes",
    "compare_with_weights",
    "fit_pixels_to_weights",
    "named_weights",
    "note_on_unknown_pixels",
    "reason_for_no_config",
]


def named_weights(cfg: CfgNode, args: argparse.Namespace) -> WeightsFile | None:
    """Read ``MODEL.WEIGHTS``; None if it is empty, a known backbone or not at hand.

    Args:
        cfg: into which the config file is merged, if there is one.
        args: of the command line, which goes before; without a config file, an address is fetched.

    Raises:
        ValueError: the file can't be read, or is refused.
    """
    given = dict(zip(args.opts[::2], args.opts[1::2]))
    weights = given.get("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS)
    if not weights or pixel_settings_of(weights):
        return None
    plain = normalize_path(weights)
    path = plain if args.config_file else PathManager.get_local_path(plain)
    if not os.path.isfile(path):  # the checkpointer says so, if it needs the file
        return None
    trusted = str(given.get("MODEL.TRUST_WEIGHTS", cfg.MODEL.TRUST_WEIGHTS)) == "True"
    return read_weights(path, trusted=trusted)


def reason_for_no_config(weights: str, contents: WeightsFile | None) -> str:
    """Why weights do not take the place of a config file, in one sentence with what to do.

    Args:
        weights: as ``MODEL.WEIGHTS``.
        contents: of that file, as far as it is at hand.
    """
    if contents is None and not pixel_settings_of(weights):
        return f"the weights {weights} do not exist."
    if contents is None or contents.kind != "detector":
        return f"{weights} is a backbone, which does not tell the detector: use --config-file."
    return f"{weights} has no configuration inside; name its yaml by --config-file."


def compare_with_weights(
    cfg: CfgNode, contents: WeightsFile, given: Collection[str], *, has_file: bool, trains: bool
) -> list[str]:
    """Sentences for the log on a detector's own configuration and the one that is used.

    Args:
        cfg: that is used.
        contents: of the weights.
        given: keys of the command line.
        has_file: whether a config file is named.
        trains: whether a training follows.

    Raises:
        ValueError: the groups of GroupNorm differ, which no tensor shows.
    """
    if contents.config is None:
        return []
    own, used, key = contents.config.MODEL.CLQ, cfg.MODEL.CLQ, "MODEL.CLQ.NUM_GROUPS"
    if key not in contents.inferred_keys and own.NUM_GROUPS != used.NUM_GROUPS:
        raise ValueError(
            f"{key} is {used.NUM_GROUPS}, but {cfg.MODEL.WEIGHTS} was trained with "
            f"{own.NUM_GROUPS}: give {key} {own.NUM_GROUPS}, or correct the file by "
            "tools/convert_checkpoint.py."
        )
    notes = (
        [] if has_file else [note for k, note in contents.inferred_keys.items() if k not in given]
    )
    if "config" not in contents.metadata:  # it was read off the tensors, which tell no schedule
        if trains and not has_file:
            notes.append(
                f"{cfg.MODEL.WEIGHTS} tells no schedule, so that of Detectron2's defaults is used; "
                "--config-file sets one."
            )
        return notes
    # The checkpointer speaks of the number of classes.
    changed = [k for k in used if k != "NUM_CLASSES" and k in own and own[k] != used[k]]
    if changed:
        listed = ", ".join(f"MODEL.CLQ.{k} {used[k]} for {own[k]}" for k in changed)
        notes.append(f"Set to other than {cfg.MODEL.WEIGHTS} was trained with: {listed}.")
    return notes


def note_on_unknown_pixels(
    cfg: CfgNode, contents: WeightsFile | None, given: Collection[str]
) -> str | None:
    """A sentence for the log on weights of Caffe2 whose origin, and so pixels, nobody knows.

    Args:
        cfg: that is used.
        contents: of the weights.
        given: keys of the command line.
    """
    is_caffe2 = contents and contents.kind == "zoo" and contents.metadata["author"] == "Caffe2"
    keys = [key for key in PIXEL_KEYS if key not in given]
    if not is_caffe2 or not keys:
        return None
    return (
        f"{cfg.MODEL.WEIGHTS} is of Caffe2 and does not state its pixels; set {', '.join(keys)} if "
        f"it was not trained with {cfg.INPUT.FORMAT} images, mean {list(cfg.MODEL.PIXEL_MEAN)} and "
        f"deviation {list(cfg.MODEL.PIXEL_STD)}, as most of Caffe2's were not."
    )


def fit_pixels_to_weights(
    cfg: CfgNode, contents: WeightsFile | None, given: Collection[str]
) -> str | None:
    """Feed the weights of ``MODEL.WEIGHTS`` with the pixels that they were trained on.

    Args:
        cfg: not frozen; changed in place.
        contents: of that file, if it is at hand.
        given: keys of the command line, which stay.

    Returns:
        What was changed, for the log; None if nothing was.
    """
    if contents is not None and contents.kind == "detector":
        settings = contents.pixel_settings
    else:
        settings = pixel_settings_of(cfg.MODEL.WEIGHTS)
    changed = []
    for key, value in settings.items():
        *sections, name = key.split(".")
        node: Any = cfg
        for section in sections:
            node = node[section]
        if key not in given and node[name] != value:
            node[name] = value
            changed.append(f"{key} {value}")
    if not changed:
        return None
    return f"Set to what {cfg.MODEL.WEIGHTS} was trained with: {', '.join(changed)}."


def check_classes(contents: WeightsFile, weights: str, dataset: str) -> None:
    """Refuse to evaluate a detector on a data set of other classes than it has learned.

    Args:
        contents: of the detector.
        weights: its file, for the message.
        dataset: in Detectron2's catalogs.

    Raises:
        ValueError: naming the classes of both.
    """
    names = MetadataCatalog.get(dataset).get("thing_classes")
    number = contents.num_classes
    if names is None or number is None or names == contents.class_names:
        return
    if contents.class_names is not None:
        raise ValueError(
            f"{weights} knows the classes {contents.class_names}, but the data set '{dataset}' "
            f"has {names}."
        )
    if len(names) != number:
        raise ValueError(
            f"{weights} knows {number} classes, but the data set '{dataset}' has {len(names)}."
        )
