"""Evaluation on images in their own size: by tiles, by views, and of exported files."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..exporting.settings import settings_of
from ..prediction.predictor import to_instances
from ..runtime.exported import ExportedPredictor, is_exported
from ..runtime.predictor import ImagePredictor


def needs_full_images(cfg: CfgNode) -> bool:
    """Tell whether the detector resizes images itself, as in tiles, views and exported files."""
    return bool(cfg.TEST.TILE or cfg.TEST.AUG.ENABLED or is_exported(cfg.MODEL.WEIGHTS))


def open_exported(cfg: CfgNode) -> "FullImageDetector":
    """Open the exported file of ``MODEL.WEIGHTS``, with the settings of a run.

    Raises:
        ValueError: the file can't be used, or the run asks for more candidates than its graph has.
    """
    predictor = ExportedPredictor.from_file(cfg.MODEL.WEIGHTS)
    own = predictor.settings
    predictor.settings = settings_of(
        cfg, own.class_names, size_divisor=own.size_divisor, strides=own.strides
    )
    if predictor.settings.topk > own.topk:
        raise ValueError(
            f"MODEL.CLQ.TOPK_CANDIDATES_TEST is {predictor.settings.topk}, but the graph of "
            f"{cfg.MODEL.WEIGHTS} has {own.topk} candidates of a level; set it to that or less."
        )
    return FullImageDetector(predictor)


class FullImageDetector(nn.Module):
    """A model of images in their own size, which detects as a predictor does."""

    def __init__(self, predictor: ImagePredictor) -> None:
        """
        Args:
            predictor: of a model, whose mode an evaluation sets and restores, or of another kind.
        """
        super().__init__()
        self._predictor = predictor
        self._is_rgb = predictor.settings.channel_order == "RGB"
        self.model = getattr(predictor, "model", None)
        self.train(self.model is not None and self.model.training)

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect in images (3, H, W) uint8, channels in the order of ``INPUT.FORMAT``."""
        images = [sample["image"].permute(1, 2, 0).numpy() for sample in batched_inputs]
        images = [image[:, :, ::-1] if self._is_rgb else image for image in images]
        return [{"instances": to_instances(found)} for found in self._predictor.find(images)]
