"""Configuration inside a checkpoint: enough to build the detector on any machine."""

import logging
import re
from typing import Any

import yaml
from detectron2.config import CfgNode

from .defaults import get_clq_cfg
from .read_yaml import parse_yaml
from .unread import flatten

logger = logging.getLogger(__name__)

# Keys and sections that describe a detector and the recipe by which it was trained. All others
# hold for one run on one machine, and a checkpoint is read on another, perhaps by a stranger.
_TAKEN = re.compile(
    r"(VERSION|SEED|DETERMINISTIC)$|INPUT\.|TEST\.DETECTIONS_PER_IMAGE$"
    r"|DATALOADER\.(SAMPLER_TRAIN|REPEAT_THRESHOLD|REPEAT_SQRT)$"
    r"|DATALOADER\.(ASPECT_RATIO_GROUPING|FILTER_EMPTY_ANNOTATIONS)$"
    r"|MODEL\.(BACKBONE|CLQ|FPN|RESNETS|TIMM|TORCHVISION)\."
    r"|MODEL\.(META_ARCHITECTURE|PIXEL_MEAN|PIXEL_STD)$"
    r"|SOLVER\.(?!CHECKPOINT_PERIOD$)"
)


class _PlainDumper(yaml.SafeDumper):
    """Writes a list out at each place instead of an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump_config(cfg: CfgNode) -> str:
    """Dump a configuration as yaml, without the keys of one run: data, folders, processes."""
    content: dict[str, Any] = {}
    for key, value in flatten(cfg):
        if _TAKEN.match(key):
            *sections, name = key.split(".")
            node = content
            for section in sections:
                node = node.setdefault(section, {})
            node[name] = value
    return yaml.dump(content, Dumper=_PlainDumper)


def parse_config(text: str) -> CfgNode:
    """Parse what :func:`dump_config` wrote; the configuration is not frozen.

    Only what describes the detector and its recipe is taken. A key of another release of Detectron2
    is left out; one of CLQ must be known.

    Raises:
        ValueError: the text is no such configuration.
    """
    cfg = get_clq_cfg()
    try:
        items = list(flatten(parse_yaml(text if isinstance(text, str) else "")))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, MemoryError, RecursionError):
        raise ValueError("the configuration inside is not valid yaml.") from None
    known = {key: value for key, value in flatten(cfg) if _TAKEN.match(key)}
    items = [item for item in items if _TAKEN.match(item[0])]
    unknown = [key for key, _ in items if key not in known]
    ours = [key for key in unknown if key.startswith("MODEL.CLQ.")]
    if ours:
        raise ValueError(f"the configuration inside has {ours[0]}, which this CLQ does not know.")
    if unknown:
        logger.info("The configuration inside has keys unknown here: %s.", ", ".join(unknown))
    for key, value in items:
        if key in known:
            try:
                cfg.merge_from_list([key, value])
            except (AssertionError, KeyError, ValueError):
                raise ValueError(
                    f"the configuration inside has {key} {value!r}, which is of another kind than "
                    f"{known[key]!r}."
                ) from None
    return cfg
