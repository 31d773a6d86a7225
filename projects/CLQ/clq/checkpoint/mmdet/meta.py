"""Metadata of mmdetection checkpoints."""

import ast
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["class_names_of_mmdet", "num_groups_of_mmdet", "pixel_settings_of_mmdet"]

# What a dict of pixel settings is called, and what it builds.
_PIXEL_NAMES = ("data_preprocessor", "preprocess_cfg", "img_norm_cfg")
_PIXEL_TYPES = ("Normalize", "DetDataPreprocessor")


class _Words(NamedTuple):
    """A dict of the config's text.

    Attributes:
        inside: names of the dicts that it lies in, its own last; some have none.
        values: by key, None where it is no literal.
    """

    inside: tuple[str, ...]
    values: dict[str, Any]


def class_names_of_mmdet(meta: Mapping[str, Any]) -> list[str] | None:
    """Class names in the order of their indices, by the place of either major release."""
    stated = meta.get("dataset_meta")
    stated = stated if isinstance(stated, Mapping) else {}
    names = stated.get("classes") or stated.get("CLASSES") or meta.get("CLASSES")
    if isinstance(names, str):
        return [names]
    return list(map(str, names)) if names and isinstance(names, (list, tuple)) else None


def pixel_settings_of_mmdet(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Keys for the pixel order, mean and deviation and for the strided convolution, where stated.

    Args:
        meta: of the checkpoint, whose ``config`` or ``cfg`` is the text of a mmdetection config.
    """
    found: dict[str, Any] = {}
    dicts = list(_dicts_of(meta))
    pixels = [
        d for d in dicts if _is_three(d.values.get("mean")) and _is_three(d.values.get("std"))
    ]
    for words in [d.values for d in pixels if _is_of_pixels(d)] or [d.values for d in pixels]:
        to_rgb = words.get("to_rgb", words.get("bgr_to_rgb", True))
        found["INPUT.FORMAT"] = "RGB" if to_rgb else "BGR"
        found["MODEL.PIXEL_MEAN"] = list(map(float, words["mean"]))
        found["MODEL.PIXEL_STD"] = list(map(float, words["std"]))
    for words in (d.values for d in dicts):
        if words.get("style") in ("caffe", "pytorch"):
            found["MODEL.RESNETS.STRIDE_IN_1X1"] = words["style"] == "caffe"
    return found


def num_groups_of_mmdet(meta: Mapping[str, Any]) -> int | None:
    """Groups of the head's GroupNorm, where stated; of another one if all have as many."""
    norms = [words for words in _dicts_of(meta) if words.values.get("type") == "GN"]
    of_head = [words for words in norms if "bbox_head" in words.inside]
    stated = [words.values.get("num_groups") for words in of_head or norms]
    first = stated[0] if stated else None
    if type(first) is not int or first < 1 or any(groups != first for groups in stated):
        return None
    return first


def _is_three(value: Any) -> bool:
    """Tell whether a value is a number for each channel of an image."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(type(number) in (int, float) and math.isfinite(number) for number in value)
    )


def _is_of_pixels(words: _Words) -> bool:
    name = words.inside[-1] if words.inside else ""
    return name in _PIXEL_NAMES or words.values.get("type") in _PIXEL_TYPES


def _dicts_of(meta: Mapping[str, Any]) -> Iterator[_Words]:
    """Every dict of literals in the config's text; nothing if the text is no Python."""
    text = meta.get("config") or meta.get("cfg") or ""
    if not isinstance(text, str):
        return
    try:
        yield from list(_walk(ast.parse(text), ()))
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two by deep nesting
        return


def _walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[_Words]:
    """Every dict below a node, from the outside in and from the top down."""
    named: list[tuple[str, ast.AST]] = [("", child) for child in ast.iter_child_nodes(node)]
    if isinstance(node, ast.Assign):
        named = [(getattr(node.targets[0], "id", ""), node.value)]
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
        items = [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        yield _Words(inside, {key: _literal(value) for key, value in items})
        named = [*items]
    elif isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values)
        items = [(str(getattr(key, "value", "")), value) for key, value in pairs]
        yield _Words(inside, {key: _literal(value) for key, value in items})
        named = [*items]
    for name, child in named:
        yield from _walk(child, (*inside, name) if name else inside)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # a name, or a dict of its own
        return None
