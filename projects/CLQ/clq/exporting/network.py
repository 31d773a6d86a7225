"""The part of a detector that an exported file holds: from pixels to boxes and scores.

Letters: N images, L levels, K classes, D channels of a coded box, S cells of a level, R rows, which
are the anchors that are kept, over all levels.
"""

import copy

import torch
from torch import Tensor, nn

from ..modeling import CLQ
from ..modeling.alignment import DeformableAlignment
from ..modeling.anchors import anchors_at
from ..modeling.backbones import TorchvisionDeformConv
from ..modeling.deform_conv import DeformForm
from ..modeling.fast_inference import fold_norms
from ..modeling.joint_score import log_joint_scores


class ExportableDetector(nn.Module):
    """A copy of a detector that maps a batch to the best anchors of each level.

    Both rules of :mod:`clq.modeling.candidates` choose among these anchors, so that nothing that
    NMS would see is lost. Boxes are not clipped, since a batch does not tell the sizes of its
    images before padding.
    """

    def __init__(self, model: CLQ, form: DeformForm) -> None:
        """
        Args:
            model: with its weights, on CPU; not changed.
            form: operator of the deformable convolutions.
        """
        super().__init__()
        model = copy.deepcopy(model).eval().requires_grad_(False)
        fold_norms(model)
        for module in model.modules():
            if isinstance(module, (DeformableAlignment, TorchvisionDeformConv)):
                module.form = form
        self.model = model.to(memory_format=torch.contiguous_format)
        self.alpha = model.criterion.quality.test_alpha

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: fp32 (N, 3, H, W), from 0 to 255, channels in the model's order.

        Returns:
            Boxes xyxy in pixels of the input, (N, R, 4), and joint scores, (N, R, K); level by
            level, and in each the anchors of the best scores first.
        """
        model = self.model
        maps = model.backbone((images - model.pixel_mean) / model.pixel_std)
        features = [maps[name] for name in model.head_in_features]
        logits, dists, quality = model.head(features)
        levels = zip(model.anchor_generator.strides, logits, dists, quality or [None] * len(logits))
        best = zip(*(self._best(*level) for level in levels))
        anchors, kept_logits, codes, *rest = (torch.cat(rows, dim=1) for rows in best)
        kept_quality = rest[0] if rest else None
        boxes = model.box2box_transform.apply_deltas(codes.flatten(0, 1), anchors.flatten(0, 1))
        scores = log_joint_scores(kept_logits, kept_quality, self.alpha).exp()
        return boxes.unflatten(0, scores.shape[:2]), scores

    def _best(
        self, stride: int, logits: Tensor, dists: Tensor, quality: Tensor | None
    ) -> list[Tensor]:
        """Choose the best anchors of a level; of the others nothing is decoded.

        Args:
            stride: of the level, in pixels.
            logits: of classes, (N, K, H, W).
            dists: coded boxes, (N, D, H, W).
            quality: quality logits, (N, 1, H, W), or None.

        Returns:
            Of each kept anchor itself, xyxy in pixels, and the channels of each map; (N, R, ...).
        """
        best_class = logits.amax(dim=1, keepdim=True)  # (N, 1, H, W)
        log_scores = log_joint_scores(best_class, quality, self.alpha).flatten(1)  # (N, S)
        count = torch.sym_min(self.model.test_topk_candidates, log_scores.shape[1])
        best = log_scores.topk(count).indices  # (N, R)
        maps = [logits, dists] if quality is None else [logits, dists, quality]
        return [anchors_at(best, logits.shape[3], stride), *(_rows_at(each, best) for each in maps)]


def _rows_at(maps: Tensor, cells: Tensor) -> Tensor:
    """Take rows (N, R, D) of maps (N, D, H, W) at cells (N, R)."""
    columns = maps.flatten(2)
    places = cells.unsqueeze(1).expand(-1, columns.shape[1], -1)
    return columns.gather(2, places).transpose(1, 2)
