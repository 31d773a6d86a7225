"""Configuration inside a checkpoint: enough to build the detector on any machine."""

import logging
from typing import Any

import yaml
from detectron2.config import CfgNode

from .defaults import get_clq_cfg
from .unread import leaves

logger = logging.getLogger(__name__)

# Keys that hold for one run on one machine; a checkpoint is read on another.
_RUN_SPECIFIC_KEYS = (
    "DATASETS.TRAIN",
    "DATASETS.TEST",
    "DATASETS.TRAIN_JSON",
    "DATASETS.VAL_JSON",
    "MODEL.ALLOW_FROZEN_RANDOM",
    "MODEL.CHANNELS_LAST",
    "MODEL.DEVICE",
    "MODEL.FAST_INFERENCE",
    "MODEL.TRUST_WEIGHTS",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
)


class _PlainDumper(yaml.SafeDumper):
    """Writes a list out at each place instead of an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump_config(cfg: CfgNode) -> str:
    """Dump a configuration as yaml, without the keys of one run: data, folders, device."""
    content = yaml.safe_load(cfg.dump())
    for key in _RUN_SPECIFIC_KEYS:
        *sections, name = key.split(".")
        node = content
        for section in sections:
            node = node.get(section, {})
        node.pop(name, None)
    return yaml.dump(content, Dumper=_PlainDumper)


def parse_config(text: str) -> CfgNode:
    """Parse what :func:`dump_config` wrote; the configuration is not frozen.

    A key of another release of Detectron2 is left out, and one of a single run; one of CLQ must be
    known.

    Raises:
        ValueError: the text is no such configuration.
    """
    cfg = get_clq_cfg()
    try:
        items = list(leaves(yaml.safe_load(text if isinstance(text, str) else "")))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, MemoryError, RecursionError):
        raise ValueError("the configuration inside is not valid yaml.") from None
    known = dict(leaves(yaml.safe_load(cfg.dump())))
    unknown = [key for key, _ in items if key not in known]
    ours = [key for key in unknown if key.startswith("MODEL.CLQ.")]
    if ours:
        raise ValueError(f"the configuration inside has {ours[0]}, which this CLQ does not know.")
    if unknown:
        logger.info("The configuration inside has keys unknown here: %s.", ", ".join(unknown))
    for key, value in items:
        if key in known and key not in _RUN_SPECIFIC_KEYS:
            try:
                cfg.merge_from_list([key, value])
            except (AssertionError, KeyError, ValueError):
                raise ValueError(
                    f"the configuration inside has {key} {value!r}, which is of another kind than "
                    f"{known[key]!r}."
                ) from None
    return cfg
