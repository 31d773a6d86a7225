"""Object size and anchor-coverage statistics.

Letters: L levels, N images, T objects that training uses.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes

from ..data.coco.findings import Finding, make_warnings
from ..data.coco.table import CocoTable, evenly_spaced
from ..data.transforms import ResizeShortestEdge
from ..modeling.anchors import ANCHOR_SCALE, CachedAnchorGenerator
from ..modeling.backbones import build_without_weights
from ..modeling.matcher import ATSSMatcher
from ..modeling.nearest_anchors import AnchorGrid


class DetectorScale(NamedTuple):
    """Input size, strides and matching parameters of a detector.

    Attributes:
        min_size: of an image's shorter side, in pixels; 0 disables resizing.
        max_size: of its longer side, in pixels.
        strides: of the L levels, ascending, in pixels.
        size_divisibility: images are padded to a multiple of it, in pixels.
        reg_max: largest regression target, in strides; None for no limit.
        topk: candidates of a box on each level.
    """

    min_size: int
    max_size: int
    strides: tuple[int, ...]
    size_divisibility: int
    reg_max: int | None
    topk: int

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "DetectorScale":
        """Read the test scale of a configuration.

        Raises:
            ValueError: the backbone can't be built.
        """
        backbone = build_without_weights(cfg)
        options = cfg.MODEL.CLQ
        return cls(
            min_size=cfg.INPUT.MIN_SIZE_TEST,
            max_size=cfg.INPUT.MAX_SIZE_TEST,
            strides=tuple(sorted(shape.stride for shape in backbone.output_shape().values())),
            size_divisibility=max(backbone.size_divisibility, 1),
            reg_max=options.REG_MAX if options.BOX_CODING == "distribution" else None,
            topk=options.ATSS_TOPK,
        )

    def resized(self, sizes: np.ndarray) -> np.ndarray:
        """Compute width and height after resizing, from those before; both (N, 2)."""
        if self.min_size == 0:
            return sizes
        unique, inverse = np.unique(sizes, axis=0, return_inverse=True)
        resized = [
            ResizeShortestEdge.get_output_shape(height, width, self.min_size, self.max_size)[::-1]
            for width, height in unique.tolist()
        ]
        return np.array(resized, dtype=np.int64).reshape(-1, 2)[inverse.reshape(-1)]


class ScaledObjects(NamedTuple):
    """Objects that training uses, at the detector's input size.

    Attributes:
        rows: indices of the annotations, (T,).
        corners: xyxy in pixels of the resized image, clipped to it, (T, 4).
        sizes: width and height of all resized images, (N, 2).
    """

    rows: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray


def scale_objects(table: CocoTable, scale: DetectorScale) -> ScaledObjects:
    """Resize boxes with their images, leaving out annotations that training ignores."""
    sizes = scale.resized(table.sizes)
    factors = np.tile(sizes / table.sizes, 2)  # (N, 4)
    rows = np.flatnonzero(table.is_trained_on())
    corners = table.corners()[rows] * factors[table.image_idxs[rows]]
    return ScaledObjects(rows, corners, sizes)


def check_scale(table: CocoTable, objects: ScaledObjects, scale: DetectorScale) -> list[Finding]:
    """Warn of objects smaller than the finest stride, or too large for ``reg_max``.

    An object belongs to the level whose anchor side, 8 strides, is closest to the square root of
    its area. From its centre, it may extend ``reg_max`` strides.
    """
    sides = objects.corners[:, 2:] - objects.corners[:, :2]  # (T, 2)
    finest = min(scale.strides)
    is_small = sides.min(axis=1, initial=np.inf) < finest
    findings = make_warnings(
        "small_objects",
        f"objects narrower or lower than the finest stride, {finest} pixels at the resized size",
        objects.rows[is_small],
        table.box_example,
        total=len(objects.rows),
        consequence="less than a cell",
    )
    if scale.reg_max is None:
        return findings
    strides = np.array(scale.strides)
    ratios = np.sqrt(sides.prod(axis=1))[:, None] / (ANCHOR_SCALE * strides)  # (T, L)
    stride = strides[np.abs(np.log(ratios)).argmin(axis=1)]  # (T,)
    is_large = sides.max(axis=1, initial=0) / 2 > scale.reg_max * stride
    return findings + make_warnings(
        "beyond_reg_max",
        f"objects that reach further than {scale.reg_max} strides of their level",
        objects.rows[is_large],
        table.box_example,
        total=len(objects.rows),
        consequence="their far sides can't be expressed (MODEL.CLQ.REG_MAX)",
    )


def check_matches(
    table: CocoTable,
    objects: ScaledObjects,
    scale: DetectorScale,
    images: np.ndarray,
    *,
    limit: int,
) -> tuple[list[Finding], int]:
    """Warn of objects that the ATSS matcher assigns no anchor.

    Args:
        table: of the data set.
        objects: of the same.
        scale: of the detector.
        images: indices of images to choose from; those without objects are skipped.
        limit: number of images to match, evenly spaced.

    Returns:
        The warning, if any, and the number of images that were matched.
    """
    image_idxs = table.image_idxs[objects.rows]
    images = images[np.isin(images, image_idxs)]
    images = images[evenly_spaced(len(images), limit)]
    matcher, unmatched, total = ATSSMatcher(scale.topk), [], 0
    for image in images:
        members = np.flatnonzero(image_idxs == image)
        padded = -(-objects.sizes[image] // scale.size_divisibility) * scale.size_divisibility
        boxes = Boxes(torch.as_tensor(objects.corners[members], dtype=torch.float32))
        anchors, grid = image_anchors(scale.strides, *padded.tolist())
        matched_idxs, labels = matcher(anchors, boxes, grid=grid)
        has_anchor = np.isin(np.arange(len(members)), matched_idxs[labels == 1].numpy())
        unmatched.append(objects.rows[members[~has_anchor]])
        total += len(members)
    findings = make_warnings(
        "objects_without_anchor",
        f"objects that ATSS gives no anchor, in {len(images)} images",
        np.concatenate(unmatched) if unmatched else [],
        table.box_example,
        total=total,
        consequence="not learned at this size",
    )
    return findings, len(images)


@lru_cache(maxsize=8)
def image_anchors(
    strides: tuple[int, ...], width: int, height: int
) -> tuple[list[Boxes], AnchorGrid]:
    """Generate the anchors of a padded image."""
    maps = [torch.empty(0, -(-height // s), -(-width // s)) for s in strides]
    return CachedAnchorGenerator(strides)(maps), AnchorGrid.of(strides, maps)
