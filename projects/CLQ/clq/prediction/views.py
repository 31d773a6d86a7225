"""Test-time augmentation: an image in several sizes, as it is and mirrored.

Letters: H, W height and width of an image in pixels, P detections, Q candidates.
"""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances, pairwise_iou

from ..data.transforms import ResizeShortestEdge
from ..modeling import CLQ
from ..modeling.detections import Detections, postprocess


class Views:
    """Detection in several views of an image, whose candidates pass one NMS.

    A single view at the test size that is not mirrored gives the detections of the plain detector.
    """

    def __init__(
        self,
        min_sizes: Sequence[int],
        max_size: int,
        *,
        flip: bool = True,
        vote: bool = False,
    ) -> None:
        """
        Args:
            min_sizes: length of the shorter side of each view in pixels; 0 does not resize.
            max_size: the most that the longer side may have.
            flip: of each size, a view that is mirrored left to right too.
            vote: see :func:`vote`.
        """
        self._resizes = [ResizeShortestEdge([size, size], max_size) for size in min_sizes]
        self._flip = flip
        self._vote = vote

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Views | None":
        """Read ``TEST.AUG``; returns None where it is not enabled."""
        options = cfg.TEST.AUG
        if not options.ENABLED:
            return None
        return cls(
            options.MIN_SIZES,
            options.MAX_SIZE,
            flip=options.FLIP,
            vote=options.MERGE == "vote",
        )

    def detect(self, model: CLQ, image: np.ndarray, size: tuple[int, int]) -> Instances:
        """Detect objects in one image.

        Args:
            model: in evaluation mode.
            image: (H, W, 3) uint8, channels in the order that the model takes.
            size: height and width at which NMS compares boxes, those of the plain detector's input.

        Returns:
            ``pred_boxes`` in pixels of the image, ``scores`` and ``pred_classes``, best first.
        """
        parts = []
        for resize in self._resizes:
            view = as_tensor(resize.get_transform(image).apply_image(image))
            views = [view, view.flip(-1)] if self._flip else [view]
            found = model.image_candidates([{"image": pixels} for pixels in views])
            parts += [
                _to_size(candidates.instances, size, is_mirrored=i == 1)
                for i, candidates in enumerate(found)
            ]
        candidates = Instances.cat(parts)
        kept = model.suppress(Detections(candidates, are_sound=False)).instances
        if self._vote:
            kept.pred_boxes = vote(kept, candidates, model.test_nms_thresh)
        return postprocess(Detections(kept, are_sound=False), *image.shape[:2])


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert an image (H, W, 3) uint8 to (3, H, W) fp32."""
    return torch.as_tensor(image.astype("float32").transpose(2, 0, 1))


def vote(kept: Instances, candidates: Instances, iou_threshold: float) -> Boxes:
    """Average each detection with the candidates that overlap it, weighted by score.

    Source: box voting, arXiv 1505.01749.

    Args:
        kept: P detections.
        candidates: Q, those that are kept among them.
        iou_threshold: IoU above which a candidate of the same class counts.
    """
    is_same = pairwise_iou(kept.pred_boxes, candidates.pred_boxes) > iou_threshold  # (P, Q)
    is_same &= kept.pred_classes[:, None] == candidates.pred_classes
    weights = is_same * candidates.scores
    total = weights.sum(dim=1, keepdim=True)  # 0 of a box without area
    mean = weights @ candidates.pred_boxes.tensor / total
    return Boxes(torch.where(total > 0, mean, kept.pred_boxes.tensor))


def _to_size(found: Instances, size: tuple[int, int], *, is_mirrored: bool) -> Instances:
    """Move candidates of a view to the image of another size, in place."""
    (height, width), boxes = found.image_size, found.pred_boxes
    if is_mirrored:
        x0, y0, x1, y1 = boxes.tensor.unbind(dim=1)
        boxes.tensor = torch.stack((width - x1, y0, width - x0, y1), dim=1)
    if size != found.image_size:
        boxes.scale(size[1] / width, size[0] / height)
    return Instances(size, **found.get_fields())
