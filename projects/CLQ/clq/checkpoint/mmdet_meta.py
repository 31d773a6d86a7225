"""What a mmdetection checkpoint says about itself beside its tensors."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["class_names_of_mmdet", "num_groups_of_mmdet", "pixel_settings_of_mmdet"]


def class_names_of_mmdet(meta: Mapping[str, Any]) -> list[str] | None:
    """Class names in the order of their indices, by the place of either major release."""
    stated = meta.get("dataset_meta") or {}
    names = stated.get("classes") or stated.get("CLASSES") or meta.get("CLASSES")
    return [names] if isinstance(names, str) else list(map(str, names)) if names else None


def pixel_settings_of_mmdet(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Keys for the pixel order, mean and deviation and for the strided convolution, where stated.

    Args:
        meta: of the checkpoint, whose ``config`` or ``cfg`` is the text of a mmdetection config.
    """
    found: dict[str, Any] = {}
    for words in _dicts_of(meta):
        if "mean" in words and "std" in words:
            to_rgb = words.get("to_rgb", words.get("bgr_to_rgb", True))
            found["INPUT.FORMAT"] = "RGB" if to_rgb else "BGR"
            found["MODEL.PIXEL_MEAN"] = list(map(float, words["mean"]))
            found["MODEL.PIXEL_STD"] = list(map(float, words["std"]))
        if words.get("style") in ("caffe", "pytorch"):
            found["MODEL.RESNETS.STRIDE_IN_1X1"] = words["style"] == "caffe"
    return found


def num_groups_of_mmdet(meta: Mapping[str, Any]) -> int | None:
    """Groups of the head's GroupNorm, where stated."""
    groups = [words.get("num_groups") for words in _dicts_of(meta) if words.get("type") == "GN"]
    return groups[-1] if groups else None


def _dicts_of(meta: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every dict of literals in the config's text; nothing if the text is no Python."""
    text = meta.get("config") or meta.get("cfg") or ""
    try:
        nodes = list(ast.walk(ast.parse(text))) if isinstance(text, str) else []
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
            items = [(keyword.arg, keyword.value) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            items = [(getattr(k, "value", None), v) for k, v in zip(node.keys, node.values)]
        else:
            continue
        yield {str(key): _literal(value) for key, value in items}


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # a name, or a dict of its own
        return None
