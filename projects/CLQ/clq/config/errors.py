"""Readable errors for config keys and values that Detectron2's configuration rejects."""

import contextlib
import difflib
import re
import textwrap
from collections.abc import Iterator, Sequence

import yaml
from detectron2.config import CfgNode

# How yacs names a key that does not exist: "Non-existent key: A.B" or "... config key: A.B".
_UNKNOWN = re.compile(r"Non-existent (?:config )?key: (?P<key>\S+)")
# And a value of another type, here "many" for a key of integers.
_MISMATCH = re.compile(
    r"Type mismatch \(<class '(?:\w+\.)*(?P<type>\w+)'> vs\. .*\) "
    r"with values \(.* vs\. (?P<value>.*)\) for config key: (?P<key>\S+)",
    re.DOTALL,
)
_LONGEST_VALUE = 60  # characters

# Keys of earlier releases, and why they went.
_REMOVED_KEYS = {
    "SOLVER.ACCUMULATION.NORMALIZERS": (
        "was removed, since 'accumulated' ran the network twice; leave it out: the box losses of "
        "each micro-batch are divided by its own weight."
    ),
}


@contextlib.contextmanager
def friendly_config_errors(
    cfg: CfgNode, *, keys: Sequence[str] = (), file: str = ""
) -> Iterator[None]:
    """Word the errors of merging a user's keys; yacs has many ways to reject them.

    Args:
        cfg: with all keys.
        keys: that are merged, if a command line names them.
        file: that they are merged from, if one does.

    Raises:
        OSError: a file can't be read.
        ValueError: a key does not exist, a value is of another type, or the file is no yaml.
    """
    try:
        yield
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is not valid yaml: {reason}.") from error
    except OSError as error:
        unread = error.filename or file
        reason = "" if unread == file else f", but {file} is based on it"
        raise OSError(f"{unread} can't be read ({error.strerror or error}){reason}.") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(_no_section(cfg, keys, file)) from error
    except (AssertionError, KeyError, ValueError) as error:
        sentence = _of_value(suggest_key(str(error.args[0]), cfg), cfg)
        raise ValueError(sentence if file in sentence else f"{file}: {sentence}") from error


def suggest_key(message: str, cfg: CfgNode) -> str:
    """A message of yacs with the most similar key, where it complains of one that does not exist.

    Args:
        message: of any error of yacs.
        cfg: with all keys.
    """
    found = _UNKNOWN.search(message)
    if found is None:
        return message
    unknown = found["key"]
    if unknown in _REMOVED_KEYS:
        return f"{unknown} {_REMOVED_KEYS[unknown]}"
    known = list(_keys(cfg))
    same_name = [key for key in known if key.rpartition(".")[2] == unknown.rpartition(".")[2]]
    nearest = difflib.get_close_matches(unknown, known, n=1, cutoff=0.75) or same_name[:1]
    advice = f"; did you mean {nearest[0]}?" if nearest else "."
    return f"there is no key {unknown}{advice}"


def _of_value(message: str, cfg: CfgNode) -> str:
    """A message of yacs in plain words, where it complains of a value's type."""
    found = _MISMATCH.search(message)
    if found is None:
        return message
    key, node = found["key"], cfg
    for part in key.split("."):
        node = node[part]
    if isinstance(node, CfgNode):
        return f"{key} is a section of keys, which takes no value; set one of {key}.*."
    value = textwrap.shorten(found["value"], _LONGEST_VALUE, placeholder=" ...")
    return f"{key} is set to {value}; it takes a value of type {found['type']}, such as {node!r}."


def _no_section(cfg: CfgNode, keys: Sequence[str], file: str) -> str:
    """Explain why something below a key that is no section can't be merged."""
    known = set(_keys(cfg))
    for key in keys:
        if key not in known:
            return suggest_key(f"Non-existent key: {key}", cfg)
    return f"{file} is no configuration; it must hold keys with their values, such as 'SEED: 1'."


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")
