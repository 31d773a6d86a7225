"""Predictor: from images to detections, built from a checkpoint alone.

Letters: H, W height and width of an image in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from torch import nn
from tqdm import tqdm

from ..checkpoint.detector import load_configured
from ..data.images import ImageSource, check_array, read_image
from ..data.transforms import ResizeShortestEdge
from ..modeling import CLQ, fast_inference_model
from .options import ViewOptions
from .tiles import WHOLE, TiledDetections, Tiling, merge_tiles
from .views import Views, as_tensor


class Predictor:
    """Detector for images as they are: resizes them and orders channels as ``INPUT`` says.

    Tiling and test-time augmentation are those of ``TEST``.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode, class_names: list[str]) -> None:
        """
        Args:
            model: :class:`CLQ` in evaluation mode.
            cfg: reads ``INPUT.FORMAT``, ``BIT_DEPTH``, ``MIN_SIZE_TEST`` and ``MAX_SIZE_TEST``,
                ``TEST.AUG``, ``TILE``, ``TILE_OVERLAP`` and ``TILE_WHOLE``.
            class_names: by class index.
        """
        self.cfg = cfg
        self.model: Any = model
        self.class_names = class_names
        sizes = [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST]
        self._resize = ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TEST)
        self._views = Views.from_config(cfg)
        tiling = Tiling(cfg.TEST.TILE, cfg.TEST.TILE_OVERLAP, cfg.TEST.TILE_WHOLE)
        self._tiling = tiling if cfg.TEST.TILE else None

    def with_options(self, options: ViewOptions) -> "Predictor":
        """Share the model with a predictor of other tiling and test-time augmentation.

        Raises:
            ValueError: an option that CLQ can't use.
        """
        cfg = options.apply(self.cfg)
        return self if cfg is self.cfg else Predictor(self.model, cfg, self.class_names)

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
        if self._tiling:
            return [self._detect_in_tiles(image, self._tiling) for image in images]
        return self._detect_whole(images, batch_size)

    def _detect_whole(self, images: Sequence[np.ndarray], batch_size: int = 1) -> list[Instances]:
        """Detect in images without tiling them."""
        if self._views:
            return [self._detect_in_views(image, self._views) for image in images]
        return self._detect_batches(images, batch_size)

    @torch.no_grad()
    def _detect_in_views(self, image: np.ndarray, views: Views) -> Instances:
        found = views.detect(self.model, self._ordered(image), self._resized_size(image))
        return found.to("cpu")

    def _detect_in_tiles(self, image: np.ndarray, tiling: Tiling) -> Instances:
        """Detect in one tile after the other, each as if it were an image; merge across borders."""
        height, width = image.shape[:2]
        tiles = tiling.tiles(height, width)
        parts = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in tiles.tolist()]
        if len(parts) == 1:
            return self._detect_whole([image])[0]
        bar = tqdm(parts, unit="tile", leave=False, disable=None)
        found = [_as_tiled(self._detect_whole([part])[0], i, tiles) for i, part in enumerate(bar)]
        if tiling.with_whole:
            found.append(_as_tiled(self._detect_whole([image])[0], WHOLE, tiles))
        merged = merge_tiles(
            TiledDetections.cat(found), tiles, (height, width), self.model.test_nms_thresh
        )
        return Instances(
            (height, width),
            pred_boxes=Boxes(torch.from_numpy(merged.boxes)),
            scores=torch.from_numpy(merged.scores),
            pred_classes=torch.from_numpy(merged.classes),
        )

    def _detect_batches(self, images: Sequence[np.ndarray], batch_size: int) -> list[Instances]:
        """Detect in images of which those that are padded to one size share a batch."""
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

    def _resized_size(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width of an image after resizing."""
        height, width = image.shape[:2]
        if self.cfg.INPUT.MIN_SIZE_TEST == 0:
            return height, width
        return ResizeShortestEdge.get_output_shape(
            height, width, self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        )

    def _padded_size(self, image: np.ndarray) -> tuple[int, int]:
        """Compute the height and width at which an image passes the network."""
        height, width = self._resized_size(image)
        divisor = max(self.model.backbone.size_divisibility, 1)
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor

    def _ordered(self, image: np.ndarray) -> np.ndarray:
        """Order the channels of a BGR image as the model takes them."""
        return image[:, :, ::-1] if self.cfg.INPUT.FORMAT == "RGB" else image

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        """Resize an image and order its channels, as input of the model."""
        height, width = image.shape[:2]
        image = self._ordered(image)
        resized = self._resize.get_transform(image).apply_image(image)
        return {"image": as_tensor(resized), "height": height, "width": width}


def _as_tiled(found: Instances, tile: int, tiles: np.ndarray) -> TiledDetections:
    """Move the detections of a tile to its place in the image."""
    corner = np.zeros(2) if tile == WHOLE else tiles[tile, :2]
    return TiledDetections(
        boxes=found.pred_boxes.tensor.numpy() + np.tile(corner, 2).astype(np.float32),
        scores=found.scores.numpy(),
        classes=found.pred_classes.numpy(),
        tile_of=np.full(len(found), tile),
    )


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
