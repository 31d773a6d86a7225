"""Proof of an exported file: what it gives, beside what the detector gives in PyTorch.

Letters: N images, K classes, S cells of a level, R rows of the file, Q cells that may be rows.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from ..modeling import CLQ
from ..modeling.joint_score import log_joint_scores
from ..runtime.sessions import Session

# Largest differences that an export may have, in pixels and in score.
BOX_TOLERANCE, SCORE_TOLERANCE = 0.05, 1e-4


class Agreement(NamedTuple):
    """How well a file agrees with PyTorch.

    Attributes:
        images: that were compared.
        rows: boxes that were compared, with their scores of all classes.
        box: greatest difference of a coordinate, in pixels.
        score: greatest difference of a score.
        lacking: boxes that the detector keeps and the file does not.
    """

    images: int
    rows: int
    box: float
    score: float
    lacking: int

    def check(self, path: object) -> None:
        """
        Raises:
            ValueError: the file differs by more than the tolerances, or nothing was compared.
        """
        if not self.rows:
            raise ValueError(
                f"{path} was not written: it gives no boxes to compare with PyTorch's."
            )
        # A difference that is not a number is none that is small.
        if not (self.box <= BOX_TOLERANCE and self.score <= SCORE_TOLERANCE) or self.lacking:
            raise ValueError(
                f"{path} was not written: it differs from PyTorch by up to {self.box:.3g} pixels "
                f"and {self.score:.3g} in score, and lacks {self.lacking} of {self.rows} boxes; "
                f"{BOX_TOLERANCE} and {SCORE_TOLERANCE} are allowed."
            )


def prove(model: CLQ, session: Session, batches: Iterable[np.ndarray]) -> Agreement:
    """Compare a file with its detector before NMS.

    Boxes count whose best score exceeds the detector's threshold, and all where there is none. The
    order of rows does not count, since roundings decide it between equal scores.

    Args:
        model: as it is used in PyTorch, on CPU.
        session: of the file, without NMS.
        batches: images (N, 3, H, W), fp32, of sizes that the file takes.

    Raises:
        ValueError: as of :meth:`Agreement.check`.
    """
    num_images, found = 0, np.empty((0, 4))
    for images in batches:
        boxes, scores = (torch.from_numpy(array) for array in session.run(images))
        levels = _all_cells(model, torch.from_numpy(images))
        counts = [min(level[0].shape[1], model.test_topk_candidates) for level in levels]
        if boxes.shape[:2] != (len(images), sum(counts)):
            raise ValueError(
                f"{session.path.name} gives {tuple(boxes.shape)} boxes for images "
                f"{tuple(images.shape)}, not {(len(images), sum(counts), 4)}."
            )
        is_any = any((level[1] > model.test_score_thresh).any() for level in levels)
        threshold = model.test_score_thresh if is_any else -1.0
        by_level = zip(levels, boxes.split(counts, dim=1), scores.split(counts, dim=1))
        for level, level_boxes, level_scores in by_level:
            for of_image in zip(*level, level_boxes, level_scores):
                found = np.vstack((found, _compare(*of_image, threshold=threshold)))
        num_images += len(images)
    rows, box, score, lacking = found.T
    total = Agreement(
        num_images,
        int(rows.sum()),
        float(box.max(initial=0)),  # NaN before any number
        float(score.max(initial=0)),
        int(lacking.sum()),
    )
    total.check(session.path.name)
    return total


@torch.no_grad()
def _all_cells(model: CLQ, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Boxes (N, S, 4) and scores (N, S, K) of every cell of each level, in PyTorch."""
    maps = model.backbone((images - model.pixel_mean) / model.pixel_std)
    features = [maps[name] for name in model.head_in_features]
    logits, dists, quality = model._transpose(model.head(features))
    levels = []
    for i, anchors in enumerate(model.anchor_generator(features)):
        decode = model.box2box_transform.apply_deltas
        boxes = torch.stack([decode(codes, anchors.tensor) for codes in dists[i]])
        of_level = quality[i] if quality else None
        scores = log_joint_scores(logits[i], of_level, model.criterion.quality.test_alpha).exp()
        levels.append((boxes, scores))
    return levels


def _compare(
    boxes: Tensor, scores: Tensor, found_boxes: Tensor, found_scores: Tensor, *, threshold: float
) -> tuple[int, float, float, int]:
    """Find the cell of each row, and compare.

    Args:
        boxes: of all cells of a level, (S, 4).
        scores: likewise, (S, K).
        found_boxes: of the file, (R, 4).
        found_scores: likewise, (R, K).
        threshold: that the best score of a row exceeds, for it to count.

    Returns:
        ``rows``, ``box``, ``score`` and ``lacking`` of :class:`Agreement`.
    """
    best = scores.amax(dim=1)  # (S,)
    cut = best.topk(len(found_boxes)).values[-1] if len(found_boxes) < len(best) else -1.0
    near = (best >= cut - SCORE_TOLERANCE).nonzero().squeeze(1)  # (Q,)
    counts = found_scores.amax(dim=1) > threshold
    found_boxes, found_scores = found_boxes[counts], found_scores[counts]
    # In units of the tolerances; the cell of a row is the one whose box and best score are nearest.
    apart = torch.cdist(found_boxes, boxes[near], p=torch.inf) / BOX_TOLERANCE  # (R, Q)
    of_best = (found_scores.amax(dim=1)[:, None] - best[near]).abs() / SCORE_TOLERANCE
    apart = torch.maximum(apart, of_best)
    cells = near[apart.argmin(dim=1)]
    is_taken = torch.zeros_like(best, dtype=torch.bool)
    is_taken[cells] = True
    must_be_there = best > max(float(cut), threshold) + SCORE_TOLERANCE
    return (
        len(cells),
        _greatest(found_boxes - boxes[cells]),
        _greatest(found_scores - scores[cells]),
        int((must_be_there & ~is_taken).sum()),
    )


def prove_nms(plain: Session, session: Session, batches: Iterable[np.ndarray]) -> None:
    """Compare the detections of a file with NMS with those of PyTorch's on the same candidates.

    Args:
        plain: the same file without NMS.
        session: of the file.
        batches: as of :func:`prove`.

    Raises:
        ValueError: they differ.
    """
    for images in batches:
        expected, found = _detections(plain, images), _detections_of(session.run(images))
        if len(expected) != len(found) or _apart(expected, found) > 1:
            raise ValueError(
                f"{session.path.name} was not written: its NMS gives {len(found)} detections that "
                f"are not the {len(expected)} of PyTorch's NMS."
            )


def _detections(plain: Session, images: np.ndarray) -> Tensor:
    """Run PyTorch's NMS in each image; gives rows as of :func:`_detections_of`."""
    settings = plain.metadata.settings
    height, width = images.shape[2:]
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    found = []
    for image, (boxes, scores) in enumerate(zip(*map(torch.from_numpy, plain.run(images)))):
        rows, classes = (scores > settings.score_threshold).nonzero(as_tuple=True)
        clipped = torch.minimum(boxes[rows].clamp(min=0), limit)
        values = scores[rows, classes]
        kept = batched_nms(clipped, values, classes, settings.nms_threshold)
        kept = kept[: settings.max_detections]
        parts = (clipped[kept], values[kept], classes[kept], torch.full_like(kept, image))
        found.append(_detections_of([part.numpy() for part in parts]))
    return torch.cat(found)


def _detections_of(arrays: Sequence[np.ndarray]) -> Tensor:
    """Join boxes, scores, classes and images, (M, 7), in units of what they may differ by."""
    boxes, *others = (torch.from_numpy(array).double() for array in arrays)
    units = torch.tensor([BOX_TOLERANCE] * 4 + [SCORE_TOLERANCE, 0.5, 0.5], dtype=torch.float64)
    return torch.cat((boxes, torch.stack(others, dim=1)), dim=1) / units


def _apart(expected: Tensor, found: Tensor) -> float:
    """Distance from a row, (M, 7), to the nearest of the other side, the greatest of all."""
    apart = torch.cdist(expected, found, p=torch.inf)
    return max(_greatest(apart.amin(dim=0)), _greatest(apart.amin(dim=1))) if len(found) else 0.0


def _greatest(differences: Tensor) -> float:
    return float(differences.abs().max()) if differences.numel() else 0.0
