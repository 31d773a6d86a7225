"""Predictor: from images to detections, by PyTorch, or by the runtime of an exported file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from ..checkpoint.detector import load_configured
from ..data.transforms import resize
from ..exporting.settings import settings_of
from ..modeling import CLQ, fast_inference_model
from ..modeling.detections import Detections
from ..runtime.detections import ImageDetections
from ..runtime.exported import ExportedPredictor, is_exported
from ..runtime.predictor import ImagePredictor


class Predictor(ImagePredictor):
    """Detector of a model of PyTorch."""

    resize = staticmethod(resize)

    def __init__(self, model: Any, cfg: CfgNode, class_names: list[str]) -> None:
        """
        Args:
            model: :class:`CLQ` in evaluation mode.
            cfg: reads ``INPUT.FORMAT``, ``BIT_DEPTH``, ``MIN_SIZE_TEST`` and ``MAX_SIZE_TEST``,
                ``TEST.AUG``, ``TILE``, ``TILE_OVERLAP`` and ``TILE_WHOLE``.
            class_names: by class index.
        """
        self.cfg = cfg
        self.model = model
        divisor = self.model.backbone.size_divisibility
        strides = self.model.anchor_generator.strides
        super().__init__(settings_of(cfg, class_names, size_divisor=divisor, strides=strides))

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", *, fast: bool = False
    ) -> "Predictor":
        """Load the detector of a checkpoint.

        Args:
            path: as of :func:`clq.checkpoint.load_detector`.
            device: of PyTorch.
            fast: on CPU, prepare the detector by :func:`clq.modeling.fast_inference_model`.

        Raises:
            ValueError: the file can't be read, has no configuration inside, or does not fit it, or
                ``fast`` is set on another device.
        """
        model, cfg, class_names = load_configured(path, device)
        assert isinstance(model, CLQ)
        return cls(fast_inference_model(model) if fast else model, cfg, class_names)

    def detect(self, image: np.ndarray) -> Instances:
        """Detect objects in one image.

        Args:
            image: (H, W, 3) uint8 BGR.

        Returns:
            ``pred_boxes`` in pixels of the image, ``scores`` and ``pred_classes``, best first, on
            CPU.

        Raises:
            ValueError: the image is no such array.
        """
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], batch_size: int = 8) -> list[Instances]:
        """Detect as :meth:`find` does, with the result of :meth:`detect`."""
        return [to_instances(found) for found in self.find(images, batch_size)]

    @torch.no_grad()
    def detect_inputs(
        self, images: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[ImageDetections]:
        samples = [
            {"image": _as_tensor(image), "height": height, "width": width}
            for image, (height, width) in zip(images, sizes)
        ]
        return [to_arrays(output["instances"]) for output in self.model(samples)]

    @torch.no_grad()
    def find_candidates(self, images: Sequence[np.ndarray]) -> list[ImageDetections]:
        found = self.model.image_candidates([{"image": _as_tensor(image)} for image in images])
        return [to_arrays(candidates.instances) for candidates in found]

    def suppress(self, candidates: ImageDetections) -> ImageDetections:
        found = to_instances(candidates).to(self.model.device)
        return to_arrays(self.model.suppress(Detections(found, are_sound=False)).instances)


def open_predictor(
    weights: str | Path, device: str | None = None, *, fast: bool = False
) -> ImagePredictor:
    """Open a detector from one file.

    Args:
        weights: ``.safetensors`` or ``.pth`` with its configuration inside, as a training run
            writes them, a checkpoint of mmdetection, or a file that ``clq export`` wrote.
        device: of PyTorch; None takes CUDA where there is one, unless ``fast`` is asked for.
        fast: on CPU, in bf16 where the CPU supports it, with norms folded into convolutions.

    Raises:
        OSError: an exported file can't be read.
        ValueError: the file can't be read, has no configuration inside, or does not fit it; or an
            argument is not for such a file.
    """
    if is_exported(weights):
        if fast or device not in (None, "cpu"):
            argument = "--fast" if fast else f"--device {device}"
            raise ValueError(f"{weights} is an exported file, which runs on CPU; omit {argument}.")
        return ExportedPredictor.from_file(os.path.expanduser(weights))
    usable = usable_device("cpu" if fast and device is None else device)
    return Predictor.from_checkpoint(weights, usable, fast=fast)


def to_instances(found: ImageDetections) -> Instances:
    """Convert to ``pred_boxes``, ``scores`` and ``pred_classes`` on CPU."""
    return Instances(
        found.image_size,
        pred_boxes=Boxes(torch.from_numpy(found.boxes)),
        scores=torch.from_numpy(found.scores),
        pred_classes=torch.from_numpy(found.classes),
    )


def to_arrays(found: Instances) -> ImageDetections:
    """Convert from ``pred_boxes``, ``scores`` and ``pred_classes`` on any device."""
    found = found.to("cpu")
    return ImageDetections(
        found.image_size,
        found.pred_boxes.tensor.numpy(),
        found.scores.numpy(),
        found.pred_classes.numpy(),
    )


def _as_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert an image (H, W, 3) uint8 to (3, H, W) fp32."""
    return torch.as_tensor(image.astype("float32").transpose(2, 0, 1))


def usable_device(name: str | None) -> str:
    """Return the given device, or by default CUDA if available, else CPU.

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
