"""Weights under CLQ's names, and what their file tells about them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from detectron2.config import CfgNode
from torch import Tensor

from ..config import flatten
from .pixel_settings import PIXEL_KEYS


@dataclass(frozen=True)
class WeightsFile:
    """Tensors and metadata of one file.

    ``detector`` has all tensors of a model under our names, ``backbone`` those of a classifier
    under the names it came with, and ``zoo`` those of Detectron2's or Caffe2's model zoo, which
    Detectron2 renames. Of an exported detector there are no tensors.
    """

    kind: Literal["detector", "backbone", "zoo"]
    tensors: dict[str, Tensor]
    config: CfgNode | None = None  # from which the detector can be built; not frozen
    class_names: list[str] | None = None  # where the file states them
    notes: list[str] = field(default_factory=list)  # decisions made while converting, for the log
    inferred_keys: dict[str, str] = field(default_factory=dict)  # a note for each guessed key
    metadata: dict[str, Any] = field(default_factory=dict)  # beside the tensors; an optimizer too
    source_name: Callable[[str], str] = str  # from our name of a tensor to that in the file
    unmatched: list[str] = field(default_factory=list)  # names in the file without a place here

    @property
    def num_classes(self) -> int | None:
        """Class count of a detector; None where neither tensors nor an exported file tell it."""
        if not self.tensors:
            return len(self.class_names or ()) or None
        weight = self.tensors.get("head.cls_score.weight")
        return len(weight) if weight is not None and weight.dim() else None

    @property
    def pixel_settings(self) -> dict[str, Any]:
        """Input format and normalization by key, where the file has a configuration."""
        return {key: value for key, value in flatten(self.config or {}) if key in PIXEL_KEYS}
