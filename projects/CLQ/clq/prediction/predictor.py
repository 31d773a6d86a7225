"""A detector that takes images as they are, from its checkpoint alone."""

from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from torch import nn

from ..checkpoint.detector import load_configured
from ..data.transforms import ResizeShortestEdge
from ..modeling import CLQ, fast_inference_model


class Predictor(DefaultPredictor):
    """Detectron2's predictor around a model that is there already.

    A call resizes an image as ``INPUT`` says, puts its channels into the model's order, and gives
    ``{"instances": ...}`` with boxes in pixels of the image that came in.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode, class_names: list[str]) -> None:
        """
        Args:
            model: in evaluation mode.
            cfg: reads ``INPUT.FORMAT``, ``INPUT.MIN_SIZE_TEST`` and ``INPUT.MAX_SIZE_TEST``, and
                in Detectron2's main ``MODEL.DEVICE``.
            class_names: by class index.
        """
        # Not Detectron2's constructor, which builds a model and loads MODEL.WEIGHTS.
        self.cfg = cfg
        self.model = model
        self.class_names = class_names
        self.aug = ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST
        )
        self.input_format = cfg.INPUT.FORMAT

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", *, fast: bool = False
    ) -> "Predictor":
        """The predictor of the detector that a file holds.

        Args:
            path: as of :func:`clq.checkpoint.load_detector`.
            device: of PyTorch.
            fast: on CPU, prepare the detector by :func:`clq.modeling.fast_inference_model`.

        Raises:
            ValueError: the file can't be read, has no configuration inside, or does not fit it, or
                ``fast`` is asked for on another device.
        """
        model, cfg, class_names = load_configured(path, device)
        assert isinstance(model, CLQ)
        return cls(fast_inference_model(model) if fast else model, cfg, class_names)

    def detect(self, image: np.ndarray) -> Instances:
        """Detections of one image, best first, on the host.

        Args:
            image: (H, W, 3) uint8, blue first.

        Returns:
            ``pred_boxes`` in pixels of the image, ``scores`` and ``pred_classes``.
        """
        return self(image)["instances"].to("cpu")


def usable_device(name: str | None) -> str:
    """The device that is asked for, or else CUDA where there is one.

    Raises:
        ValueError: PyTorch can't use the device on this machine.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).tolist()
    except (AssertionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"--device is '{name}', which can't be used here ({reason}); leave it out to run on "
            "CUDA where there is one, else on CPU."
        ) from None
    return name
