"""Yaml of strangers: read to plain values of a bounded size, from files on this machine."""

import os
import re
from collections.abc import Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from .errors import friendly_config_errors

REMOTE_BASE = "CLQ_ALLOW_REMOTE_BASE"  # environment variable; 1 lets a config name an address
_DEEPEST = 32  # sections in sections
_MOST = 20_000  # values, with those that an alias repeats
_LONGEST = 1_000_000  # characters of a text
_LONGEST_VALUE = 10_000
_BASE = "_BASE_"


class _Loader(yaml.SafeLoader):
    """Counts values before any is built, since aliases can repeat them without end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        is_alias = self.check_event(yaml.AliasEvent)
        start = self._count
        self._check(self._depth <= _DEEPEST, f"sections in more than {_DEEPEST} sections")
        node = super().compose_node(parent, index)
        if is_alias:
            self._check(node in self._sizes, "a section that holds itself")
        self._count += self._sizes[node] if is_alias else 1
        self._check(self._count <= _MOST, f"more than {_MOST} values")
        if isinstance(node, yaml.ScalarNode):
            self._check(len(node.value) <= _LONGEST_VALUE, "a value that is too long")
        self._sizes.setdefault(node, self._count - start)
        self._depth -= 1
        return node

    def _check(self, is_fine: bool, reason: str) -> None:
        if not is_fine:
            raise yaml.YAMLError(f"it has {reason}")


class _TextLoader(_Loader):
    """Leaves ``no`` and ``1`` the texts that they are as names of classes."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def parse_yaml(text: str, *, only_texts: bool = False) -> Any:
    """Parse yaml to plain values.

    Args:
        text: of the file.
        only_texts: leave numbers, booleans and null as the texts that stand there.

    Raises:
        yaml.YAMLError: the text is no yaml, or too large, too deep, or grows by its aliases.
        ValueError: a value is not what its form says, such as a date of month 13.
    """
    if len(text) > _LONGEST:
        raise yaml.YAMLError(f"it has more than {_LONGEST} characters")
    loader = (_TextLoader if only_texts else _Loader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """Merge a config file with those that it is based on.

    Args:
        cfg: with all keys; changed in place.
        path: of the file, or an address.

    Raises:
        OSError: a file can't be read.
        ValueError: a file is no config within bounds, or has an unknown key or value.
    """
    with friendly_config_errors(cfg, file=path):
        check_config_file(path)
        cfg.merge_from_file(path, allow_unsafe=False)  # a yaml could run code otherwise


def check_config_file(path: str, below: Sequence[str] = ()) -> None:
    """Refuse a config file, or one that it is based on, that can't be read within bounds.

    Args:
        path: of the file, or an address.
        below: files that are based on it, by their paths.

    Raises:
        OSError: a file can't be read; one that does not exist is passed over.
        ValueError: a file is based on itself, or on an address without ``CLQ_ALLOW_REMOTE_BASE``.
        yaml.YAMLError: as of :func:`parse_yaml`.
    """
    is_address = re.match(r"\w+://", path)
    if below and is_address and os.environ.get(REMOTE_BASE) != "1":
        raise ValueError(
            f"{below[-1]} is based on the address {path}; download it and name the file in "
            f"{_BASE}, or set the environment variable {REMOTE_BASE}=1 if you trust it."
        )
    if os.path.realpath(path) in map(os.path.realpath, below):
        raise ValueError(f"{below[-1]} is based on {path}, which is based on it; drop a {_BASE}.")
    if len(below) > _DEEPEST:
        raise ValueError(f"{below[0]} is based on more than {_DEEPEST} files in a row.")
    if not is_address and not os.path.exists(path):
        return  # Detectron2 tells of it
    if not is_address and not os.path.isfile(path):
        raise ValueError(f"{path} is no file, so no config.")
    with PathManager.open(path) as file:
        content = parse_yaml(file.read(_LONGEST + 1))
    bases = content.get(_BASE, []) if isinstance(content, dict) else []
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ValueError(f"{path} is based on {base!r:.60}, which is no file's name.")
        base = os.path.expanduser(base) if base.startswith("~") else base
        if not re.match(r"/|https?://", base):
            base = os.path.join(os.path.dirname(path), base)
        check_config_file(base, (*below, path))
