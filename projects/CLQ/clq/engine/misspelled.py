"""The key that a user may have meant."""

import difflib
import re
from collections.abc import Iterator

from detectron2.config import CfgNode

__all__ = ["with_nearest_key"]

# How yacs names a key that does not exist: "Non-existent key: A.B" or "... config key: A.B".
_UNKNOWN = re.compile(r"Non-existent (?:config )?key: (?P<key>\S+)")


def with_nearest_key(message: str, cfg: CfgNode) -> str:
    """A message of yacs with the most similar key, where it complains of one that does not exist.

    Args:
        message: of any error of yacs.
        cfg: with all keys.
    """
    found = _UNKNOWN.search(message)
    if found is None:
        return message
    unknown = found["key"]
    known = list(_keys(cfg))
    same_name = [key for key in known if key.rpartition(".")[2] == unknown.rpartition(".")[2]]
    nearest = difflib.get_close_matches(unknown, known, n=1, cutoff=0.75) or same_name[:1]
    advice = f"; did you mean {nearest[0]}?" if nearest else "."
    return f"there is no key {unknown}{advice}"


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")
