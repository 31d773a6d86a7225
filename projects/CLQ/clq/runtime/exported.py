"""Predictor of an exported file."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .candidates import choose_candidates
from .detections import ImageDetections
from .predictor import ImagePredictor, as_batch
from .resize import size_of
from .sessions import SESSIONS, Session, open_session


def is_exported(path: str | Path) -> bool:
    """Tell an exported file from a checkpoint by its name."""
    return os.fspath(path).lower().endswith(tuple(SESSIONS))


class ImageSizeError(ValueError):
    """An image is larger than a graph of one size takes."""


class ExportedPredictor(ImagePredictor):
    """Detector of an exported file, by the runtime that its format needs."""

    def __init__(self, session: Session) -> None:
        """
        Raises:
            ValueError: the file has NMS in its graph, which decides otherwise than CLQ.
        """
        if session.metadata.has_nms:
            raise ValueError(
                f"{session.path} has NMS in its graph, which is for other programs; export the "
                "checkpoint without --nms to use it here."
            )
        super().__init__(session.metadata.settings)
        self.session = session

    @classmethod
    def from_file(cls, path: str | Path, *, threads: int | None = None) -> "ExportedPredictor":
        """Open an exported file.

        Args:
            path: as of :func:`clq.runtime.sessions.open_session`.
            threads: of the network; None leaves their number to the runtime.

        Raises:
            OSError: the file can't be read.
            ValueError: the file is no exported detector, or its runtime is not installed.
        """
        return cls(open_session(os.path.expanduser(path), threads=threads))

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return self.session.metadata.fixed_size or super().padded_size(size)

    def find_candidates(self, images: Sequence[np.ndarray]) -> list[ImageDetections]:
        batch = self.as_batch(images)
        boxes, scores = self.session.run(batch)
        sizes = self._level_sizes(batch.shape[2], batch.shape[3])
        return [
            choose_candidates(boxes[i], scores[i], self.settings, sizes, size_of(image))
            for i, image in enumerate(images)
        ]

    def _level_sizes(self, height: int, width: int) -> list[int]:
        """Rows that the graph gives of each level of an input."""
        own = self.session.metadata.settings  # whatever a run asks for
        cells = (-(-height // stride) * -(-width // stride) for stride in own.strides)
        return [min(number, own.topk) for number in cells]

    def as_batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Lay out resized images as input of the graph, (N, 3, H, W) fp32.

        Raises:
            ImageSizeError: an image is larger than the graph takes.
        """
        height, width = (max(sides) for sides in zip(*map(size_of, images)))
        size = self.padded_size((height, width))
        if height > size[0] or width > size[1]:
            raise ImageSizeError(
                f"the image is {height} x {width} pixels after resizing, but the exported graph "
                f"takes {size[0]} x {size[1]}; export it with a larger --size, or use tiles."
            )
        return as_batch(images, size, self.session.metadata.pixel_mean)
