"""Predictor: from images to detections, built from a checkpoint alone.

Letters: H, W height and width of an image in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from ..checkpoint.detector import load_configured
from ..data.images import ImageSource, check_array, read_image
from ..data.transforms import ResizeShortestEdge
from ..modeling import CLQ, fast_inference_model


class Predictor:
    """Detector for images as they are: resizes them and orders channels as ``INPUT`` says."""

    def __init__(self, model: nn.Module, cfg: CfgNode, class_names: list[str]) -> None:
        """
        Args:
            model: :class:`CLQ` in evaluation mode.
            cfg: reads ``INPUT.FORMAT``, ``BIT_DEPTH``, ``MIN_SIZE_TEST`` and ``MAX_SIZE_TEST``.
            class_names: by class index.
        """
        self.cfg = cfg
        self.model = model
        self.class_names = class_names
        sizes = [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST]
        self._resize = ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TEST)

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

    def read(self, source: ImageSource, channels: str = "BGR") -> np.ndarray:
        """Read an image as the detector was trained on it, see :func:`clq.data.images.read_image`.

        Raises:
            READ_ERRORS: the image can't be read.
        """
        return read_image(source, channels, bit_depth=self.cfg.INPUT.BIT_DEPTH)

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
        """Detect objects in several images, as :func:`detect` does in each.

        Images that are padded to the same size pass the network together.

        Args:
            images: (H, W, 3) uint8 BGR, of any sizes.
            batch_size: largest number of images in a forward pass.

        Raises:
            ValueError: an image is no such array.
        """
        for image in images:
            check_array(image, "BGR")
        groups: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(self._padded_size(image), []).append(i)
        found: dict[int, Instances] = {}
        for indices in groups.values():
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                with torch.no_grad():
                    outputs = self.model([self._prepare(images[i]) for i in batch])
                for i, output in zip(batch, outputs):
                    found[i] = output["instances"].to("cpu")
        return [found[i] for i in range(len(images))]

    def _padded_size(self, image: np.ndarray) -> tuple[int, int]:
        """Compute the height and width at which an image passes the network."""
        height, width = image.shape[:2]
        if self.cfg.INPUT.MIN_SIZE_TEST > 0:
            height, width = ResizeShortestEdge.get_output_shape(
                height, width, self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
            )
        backbone: Any = self.model.backbone
        divisor = max(backbone.size_divisibility, 1)
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        """Resize an image and order its channels, as input of the model."""
        height, width = image.shape[:2]
        if self.cfg.INPUT.FORMAT == "RGB":
            image = image[:, :, ::-1]
        resized = self._resize.get_transform(image).apply_image(image)
        pixels = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": pixels, "height": height, "width": width}


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
