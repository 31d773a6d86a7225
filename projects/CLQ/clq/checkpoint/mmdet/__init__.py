"""Detectors of mmdetection; no other part of the package knows the names of their tensors."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ..read_file import validate_tensor
from ..weights_file import WeightsFile
from .config import infer_config
from .meta import read_class_names, read_num_groups
from .names import Renamed, detect_head, rename_tensors
from .spare_class import Spare, drop_spare_class

__all__ = ["Spare", "convert", "count_head_tensors"]


def count_head_tensors(names: Iterable[str]) -> int:
    """Count the tensors of a dense head of mmdetection."""
    return sum(name.startswith("bbox_head.") for name in names)


def convert(tensors: Mapping[str, Tensor], meta: Any, spare: Spare) -> WeightsFile:
    """Map a detector of mmdetection to CLQ's names, and infer its configuration.

    Args:
        tensors: under mmdetection's names.
        meta: beside the tensors in the file; a mapping, or something that tells nothing.
        spare: treatment of the spare class channel.

    Raises:
        ValueError: CLQ can't build the detector, or a tensor is missing, invalid or contradicts
            another or ``meta``.
    """
    head = detect_head(tensors)
    if head is None:
        raise ValueError("its head is none of ATSS, GFL or CLQ.")
    renamed = rename_tensors(tensors, head)
    try:
        return _convert(renamed, meta if isinstance(meta, Mapping) else {}, spare)
    except ValueError as error:
        names = renamed.unmatched
        unknown = f" Unknown tensors ({len(names)}): {', '.join(names)}." if names else ""
        raise ValueError(f"{error}{unknown}") from None


def _convert(renamed: Renamed, meta: Mapping[str, Any], spare: Spare) -> WeightsFile:
    tensors, notes, class_names = dict(renamed.tensors), [], read_class_names(meta)
    for name, tensor in tensors.items():
        validate_tensor(renamed.source_name(name), tensor)
    weight, bias = _class_predictor(renamed)
    if renamed.head == "clq":
        weight, bias, note = drop_spare_class(weight, bias, spare)
        tensors |= {"head.cls_score.weight": weight, "head.cls_score.bias": bias}
        notes.append(note)
        if class_names and spare is Spare.KEEP and len(class_names) == len(weight) - 1:
            class_names.append("spare")
    by_source = {renamed.source_name(name): tensor for name, tensor in tensors.items()}
    config = infer_config(by_source, renamed.head, meta)
    if class_names and len(class_names) != len(weight):
        raise ValueError(f"it names {len(class_names)} classes but predicts {len(weight)}.")
    inferred_keys = {}
    if read_num_groups(meta) is None:
        inferred_keys["MODEL.CLQ.NUM_GROUPS"] = (
            "The file does not state the groups of its GroupNorm; took "
            f"{config.MODEL.CLQ.NUM_GROUPS}, give MODEL.CLQ.NUM_GROUPS if that is wrong."
        )
    return WeightsFile(
        "detector",
        tensors,
        config=config,
        class_names=class_names,
        notes=notes,
        inferred_keys=inferred_keys,
        source_name=renamed.source_name,
        unmatched=renamed.unmatched,
    )


def _class_predictor(renamed: Renamed) -> tuple[Tensor, Tensor]:
    """Weight, (K, C, 3, 3), and bias, (K,), of the class predictor."""
    names = ("head.cls_score.weight", "head.cls_score.bias")
    sources = list(map(renamed.source_name, names))
    for name, source, dims in zip(names, sources, (4, 1)):
        if name not in renamed.tensors:
            raise ValueError(f"the tensor {source} is missing.")
        validate_tensor(source, renamed.tensors[name], dims=dims)
    weight, bias = (renamed.tensors[name] for name in names)
    if len(weight) != len(bias):
        raise ValueError(
            f"the tensor {sources[0]} has {len(weight)} channels, but {sources[1]} {len(bias)}."
        )
    return weight, bias
