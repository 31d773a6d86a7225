"""Metadata of mmdetection checkpoints."""

import ast
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Names of the dicts that hold mean and deviation, and types of what they build.
_PIXEL_NAMES = ("data_preprocessor", "preprocess_cfg", "img_norm_cfg")
_PIXEL_TYPES = ("Normalize", "DetDataPreprocessor")


class _Section(NamedTuple):
    """A dict in the config's text.

    Attributes:
        path: names of the dicts that it lies in, its own last; some have none.
        values: by key, None where it is no literal.
    """

    path: tuple[str, ...]
    values: dict[str, Any]


def read_class_names(meta: Mapping[str, Any]) -> list[str] | None:
    """Class names in the order of their indices, from where either major release keeps them."""
    stated = meta.get("dataset_meta")
    stated = stated if isinstance(stated, Mapping) else {}
    names = stated.get("classes") or stated.get("CLASSES") or meta.get("CLASSES")
    if isinstance(names, str):
        return [names]
    return list(map(str, names)) if names and isinstance(names, (list, tuple)) else None


def read_pixel_settings(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Keys for input format and normalization and for the strided convolution, where stated.

    Args:
        meta: of the checkpoint, whose ``config`` or ``cfg`` is the text of a mmdetection config.
    """
    found: dict[str, Any] = {}
    sections = _sections(meta)
    pixels = [
        s for s in sections if _is_three(s.values.get("mean")) and _is_three(s.values.get("std"))
    ]
    for _, values in [s for s in pixels if _is_of_pixels(s)] or pixels:
        to_rgb = values.get("to_rgb", values.get("bgr_to_rgb", True))
        found["INPUT.FORMAT"] = "RGB" if to_rgb else "BGR"
        found["MODEL.PIXEL_MEAN"] = list(map(float, values["mean"]))
        found["MODEL.PIXEL_STD"] = list(map(float, values["std"]))
    for _, values in sections:
        if values.get("style") in ("caffe", "pytorch"):
            found["MODEL.RESNETS.STRIDE_IN_1X1"] = values["style"] == "caffe"
    return found


def read_num_groups(meta: Mapping[str, Any]) -> int | None:
    """Groups of the head's GroupNorm, where stated; of another one if all have as many."""
    norms = [section for section in _sections(meta) if section.values.get("type") == "GN"]
    of_head = [section for section in norms if "bbox_head" in section.path]
    stated = [section.values.get("num_groups") for section in of_head or norms]
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


def _is_of_pixels(section: _Section) -> bool:
    name = section.path[-1] if section.path else ""
    return name in _PIXEL_NAMES or section.values.get("type") in _PIXEL_TYPES


def _sections(meta: Mapping[str, Any]) -> list[_Section]:
    """Every dict in the config's text; none if the text is no Python."""
    text = meta.get("config") or meta.get("cfg") or ""
    try:
        return list(_walk(ast.parse(text))) if isinstance(text, str) else []
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two by deep nesting
        return []


def _walk(node: ast.AST, path: tuple[str, ...] = ()) -> Iterator[_Section]:
    """Yield every dict below a node, from the outside in and from the top down."""
    items: list[tuple[str, Any]]
    if isinstance(node, ast.Dict):
        items = [(str(getattr(k, "value", "")), v) for k, v in zip(node.keys, node.values)]
        yield _Section(path, {key: _literal(value) for key, value in items})
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
        items = [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        yield _Section(path, {key: _literal(value) for key, value in items})
    elif isinstance(node, ast.Assign):
        items = [(getattr(node.targets[0], "id", ""), node.value)]
    else:
        items = [("", child) for child in ast.iter_child_nodes(node)]
    for name, child in items:
        yield from _walk(child, (*path, name) if name else path)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # a name, or a dict of its own
        return None
