"""What weights say about the configuration: a detector's whole, a backbone's pixels."""

import argparse
import os
from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from clq.checkpoint import Contents, pixel_settings_of, read_contents

__all__ = ["check_classes", "fit_pixels_to_weights", "named_weights"]


def named_weights(cfg: CfgNode, args: argparse.Namespace) -> Contents | None:
    """The detector that ``MODEL.WEIGHTS`` names; None if it names none that is at hand.

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
    path = weights if args.config_file else PathManager.get_local_path(weights)
    if not os.path.isfile(path):  # the checkpointer says so, if it needs the file
        return None
    trusted = str(given.get("MODEL.TRUST_WEIGHTS", cfg.MODEL.TRUST_WEIGHTS)) == "True"
    contents = read_contents(path, trusted=trusted)
    return contents if contents.kind == "detector" else None


def fit_pixels_to_weights(
    cfg: CfgNode, contents: Contents | None, given: Collection[str]
) -> str | None:
    """Feed the weights of ``MODEL.WEIGHTS`` with the pixels that they were trained on.

    Args:
        cfg: not frozen; changed in place.
        contents: of that file, if it is a detector.
        given: keys of the command line, which stay.

    Returns:
        What was changed, for the log; None if nothing was.
    """
    settings = contents.pixel_settings if contents else pixel_settings_of(cfg.MODEL.WEIGHTS)
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


def check_classes(contents: Contents, weights: str, dataset: str) -> None:
    """Refuse to evaluate a detector on a data set of other classes than it has learned.

    Args:
        contents: of the detector.
        weights: its file, for the message.
        dataset: in Detectron2's catalogs.

    Raises:
        ValueError: naming the classes of both.
    """
    names = MetadataCatalog.get(dataset).get("thing_classes")
    number = len(contents.tensors["head.cls_score.weight"])
    if names is None or names == contents.class_names:
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
