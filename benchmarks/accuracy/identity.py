"""The hash that makes rows comparable, over data and the settings that members share."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from clq.config import flatten, get_clq_cfg

# Of one run or one machine; where the data lies says nothing of what it is.
_NOT_SETTINGS = (
    *("SEED", "OUTPUT_DIR", "TEST.REPORT"),
    *("DATASETS.TRAIN_JSON", "DATASETS.VAL_JSON"),
)


def shared_hash(cfg: CfgNode, member_keys: Iterable[str]) -> str:
    """Eight hex digits that two cells share if they differ in nothing but member and seed.

    Counted are the keys that differ from the defaults, the device's kind, and the images' files
    and annotations, wherever they lie.

    Args:
        cfg: of a cell, with its data sets registered.
        member_keys: the keys that make the member.
    """
    defaults = dict(flatten(get_clq_cfg()))
    left_out = {*_NOT_SETTINGS, *member_keys, "MODEL.DEVICE"}
    if not cfg.TEST.AUG.ENABLED:  # its sizes have no effect then
        left_out |= {f"TEST.AUG.{key}" for key in cfg.TEST.AUG}
    settings = {
        key: repr(value)
        for key, value in flatten(cfg)
        if key not in left_out and value != defaults[key]
    }
    settings["MODEL.DEVICE"] = cfg.MODEL.DEVICE.split(":")[0]
    data = [_data_digest(name) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)]
    return _digest([settings, data])[:8]


def _data_digest(name: str) -> str:
    """Hash a registered data set's images and boxes, in an order that no file decides."""
    images = []
    for record in DatasetCatalog.get(name):
        objects = [
            (*a["bbox"], a["category_id"], a.get("iscrowd", 0)) for a in record["annotations"]
        ]
        path = Path(record["file_name"])
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        images.append([path.name, content, sorted([float(x) for x in row] for row in objects)])
    return _digest(sorted(images))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
