"""Evaluation by tiles and by test-time augmentation, both of images in their own size."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..prediction import Predictor


def needs_full_images(cfg: CfgNode) -> bool:
    """Tell whether the detector cuts and resizes images itself, by ``TEST.TILE`` or ``AUG``."""
    return bool(cfg.TEST.TILE or cfg.TEST.AUG.ENABLED)


class FullImageDetector(nn.Module):
    """A model of images in their own size, which detects as :class:`Predictor` does."""

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        """
        Args:
            model: of images that are resized to the test size.
            cfg: see :class:`Predictor`.
        """
        super().__init__()
        self.model = model
        self._predictor = Predictor(model, cfg, [])
        self._is_rgb = cfg.INPUT.FORMAT == "RGB"
        self.train(model.training)  # which an evaluation restores

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect in images (3, H, W) uint8, channels in the order of ``INPUT.FORMAT``."""
        images = [sample["image"].permute(1, 2, 0).numpy() for sample in batched_inputs]
        images = [image[:, :, ::-1] if self._is_rgb else image for image in images]
        return [{"instances": found} for found in self._predictor.detect_batch(images)]
