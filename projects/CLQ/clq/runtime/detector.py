"""The Python API of a trained detector."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from .exported import ExportedPredictor
from .images import READ_ERRORS, ImageSource, allow_any_size, reason_of
from .options import ViewOptions
from .predictor import ImagePredictor
from .result import Result


class Detector:
    """A trained detector; made by :func:`clq.load`, or of an exported file by :func:`load`.

    Attributes:
        class_names: by class index.
        predictor: of images in BGR order; that of a checkpoint gives Detectron2's instances too.
    """

    def __init__(self, predictor: ImagePredictor) -> None:
        self.predictor = predictor
        self.class_names = predictor.class_names

    @overload
    def predict(
        self,
        images: list[ImageSource],
        *,
        threshold: float = ...,
        batch_size: int = ...,
        augment: bool | None = ...,
        tile: int | None = ...,
        overlap: float | None = ...,
        whole: bool | None = ...,
    ) -> list[Result]: ...

    @overload
    def predict(
        self,
        images: ImageSource,
        *,
        threshold: float = ...,
        batch_size: int = ...,
        augment: bool | None = ...,
        tile: int | None = ...,
        overlap: float | None = ...,
        whole: bool | None = ...,
    ) -> Result: ...

    def predict(
        self,
        images: ImageSource | list[ImageSource],
        *,
        threshold: float = 0.3,
        batch_size: int = 8,
        augment: bool | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        whole: bool | None = None,
    ) -> Result | list[Result]:
        """Detect objects in an image, or in each of several.

        Args:
            images: path, file object, PIL image or (H, W, 3) uint8 RGB array; or a list of them.
            threshold: lowest joint score of a detection, in [0, 1]. Below the checkpoint's own
                ``MODEL.CLQ.SCORE_THRESH_TEST`` there are none.
            batch_size: images that pass the network together, where they are of one size. Tiles
                and augmented images pass alone.
            augment: look at each image in several sizes and mirrored, see ``TEST.AUG``.
            tile: side in pixels of the tiles that a large image is cut into; 0 does not cut.
            overlap: share of its side that a tile has in common with the next, at least.
            whole: with tiles, look at the whole image too, for objects larger than a tile.

        The last four are as the checkpoint's configuration says where they are None.

        Returns:
            A result, or a list of them for a list.

        Raises:
            ValueError: an image can't be read, or an argument lies outside of its range.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it must lie in [0, 1].")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        options = ViewOptions(augment=augment, tile=tile, overlap=overlap, whole=whole)
        predictor = self.predictor.with_options(options)
        if tile:
            allow_any_size()
        if not isinstance(images, list):
            return self._predict(predictor, [images], threshold)[0]
        results: list[Result] = []
        for start in range(0, len(images), batch_size):
            results += self._predict(predictor, images[start : start + batch_size], threshold)
        return results

    def _predict(
        self, predictor: ImagePredictor, sources: Sequence[ImageSource], threshold: float
    ) -> list[Result]:
        images = [self._read(source) for source in sources]
        found = predictor.find([image[:, :, ::-1] for image in images], batch_size=len(images))
        kept = [detections.select(detections.scores >= threshold) for detections in found]
        return [
            Result(image, detections.boxes, detections.scores, detections.classes, self.class_names)
            for image, detections in zip(images, kept, strict=True)
        ]

    def _read(self, source: ImageSource) -> np.ndarray:
        """Read an image as (H, W, 3) uint8, RGB."""
        source = os.path.expanduser(source) if isinstance(source, (str, os.PathLike)) else source
        try:
            return self.predictor.read(source, "RGB")
        except READ_ERRORS as error:
            name = source if isinstance(source, str) else "the image"
            raise ValueError(f"{name} can't be read ({reason_of(error)}).") from error


def load(path: str | Path, *, threads: int | None = None) -> Detector:
    """Load a detector that ``clq export`` wrote, without PyTorch where its format needs none.

    Args:
        path: ``.onnx``, ``.xml`` or ``.pt2``.
        threads: of the network; None leaves their number to the runtime.

    Raises:
        OSError: the file can't be read.
        ValueError: the file is no exported detector, or its runtime is not installed.
    """
    return Detector(ExportedPredictor.from_file(path, threads=threads))
