"""Metadata of an exported file: all that a caller needs beside the graph."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

FORMAT = 1  # of the metadata; a reader refuses those that it does not know


@dataclass(frozen=True)
class Settings:
    """How a detector sees an image, and which of its boxes count; sizes are in pixels.

    Attributes:
        class_names: by class index.
        channel_order: of the images that the network takes, ``"RGB"`` or ``"BGR"``.
        bit_depth: of :func:`clq.runtime.images.read_image`.
        min_size: that the shorter side is resized to; 0 does not resize.
        max_size: the most that the longer side may have after that.
        size_divisor: of height and width of a batch, which is padded with the pixel mean.
        strides: of the levels.
        score_threshold: joint score that a detection exceeds.
        nms_threshold: IoU above which NMS suppresses a box of the same class.
        topk: candidates of a level that pass to NMS, at most.
        candidate_rule: what counts as one, ``"pairs"`` of a box and a class, or ``"anchors"``.
        max_detections: of an image.
        augment: look at an image in several views; the next four say which.
        augment_min_sizes: as ``min_size``, of each view.
        augment_max_size: as ``max_size``, of all views.
        augment_flip: each size mirrored left to right too.
        augment_merge: how the boxes of views become one, ``"nms"`` or ``"vote"``.
        tile: side of the tiles that an image is cut into; 0 does not cut.
        tile_overlap: share of a tile's side that its neighbour has too.
        tile_whole: look at the whole image too.
    """

    class_names: tuple[str, ...]
    channel_order: str
    bit_depth: int
    min_size: int
    max_size: int
    size_divisor: int
    strides: tuple[int, ...]
    score_threshold: float
    nms_threshold: float
    topk: int
    candidate_rule: str
    max_detections: int
    augment: bool
    augment_min_sizes: tuple[int, ...]
    augment_max_size: int
    augment_flip: bool
    augment_merge: str
    tile: int
    tile_overlap: float
    tile_whole: bool


@dataclass(frozen=True)
class Metadata:
    """All that an exported file tells about its detector.

    Attributes:
        settings: of the detector.
        pixel_mean: per channel; the graph subtracts it, and a batch is padded with it.
        pixel_std: per channel, by which the graph divides.
        alpha: exponent of the quality in the joint score.
        fixed_size: height and width of the only input that the graph takes; None for any.
        has_nms: NMS is in the graph.
        precision: of its convolutions, ``"fp32"`` or ``"int8"``.
        config: the configuration of the checkpoint, as yaml.
        clq_version: that exported it.
        weights_sha256: of the checkpoint's file.
        parity: greatest differences from PyTorch that the export found, by name.
    """

    settings: Settings
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    alpha: float
    config: str
    clq_version: str
    weights_sha256: str
    fixed_size: tuple[int, int] | None = None
    has_nms: bool = False
    precision: str = "fp32"
    parity: Mapping[str, float] = field(default_factory=dict)

    def to_props(self) -> dict[str, str]:
        """Write every value as json, by name, with a checksum of them all."""
        values = asdict(self)
        values |= values.pop("settings")
        props = {name: json.dumps(value) for name, value in values.items()}
        props["format"] = json.dumps(FORMAT)
        return {**props, "checksum": _checksum(props)}

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> "Metadata":
        """Read what :meth:`to_props` wrote; other names are left alone.

        Raises:
            ValueError: what is wrong, as the end of a sentence that names the file.
        """
        own, of_settings = ({f.name for f in fields(c)} for c in (cls, Settings))
        names = (own - {"settings"}) | of_settings | {"format"}
        if "checksum" not in props or "format" not in props:
            raise ValueError("has no metadata of CLQ, so it is no detector that CLQ exported")
        if props["format"] != json.dumps(FORMAT):
            raise ValueError(
                f"has metadata of format {props['format']}, but this CLQ reads format {FORMAT}; "
                "export it again with this CLQ"
            )
        known = {name: props[name] for name in names if name in props}
        if known.keys() != names or _checksum(known) != props["checksum"]:
            raise ValueError(
                "has metadata that was altered after the export; export the checkpoint again"
            )
        values: dict[str, Any] = {name: _as_tuple(json.loads(t)) for name, t in known.items()}
        settings = Settings(**{name: values[name] for name in of_settings})
        return cls(settings, **{name: values[name] for name in own - {"settings"}})


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _checksum(props: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(props.items())).encode()).hexdigest()
