"""The detections of one image, as numpy arrays.

Letters: H, W height and width of the image in pixels, P detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .coco_file import xywh
from .detections import ImageDetections


@dataclass(frozen=True)
class Result:
    """Detections of an image, best first.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (P, 4) float32, xyxy in pixels of the image.
        scores: (P,) float32, joint score of class and localization quality, in [0, 1].
        labels: (P,) int64, class index.
        class_names: by class index.
    """

    image: np.ndarray = field(repr=False)
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: Sequence[str] = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Class name of each detection."""
        return [self.class_names[k] for k in self.labels.tolist()]

    def __len__(self) -> int:
        return len(self.scores)

    def plot(self) -> Image.Image:
        """Draw boxes with class name and score; a small image is enlarged.

        Raises:
            ImportError: Detectron2 is not installed.
        """
        try:
            from ..prediction.drawing import draw_detections
        except ImportError as error:
            raise ImportError(f"plot needs Detectron2 ({error}); boxes need not") from error
        found = ImageDetections(self.image.shape[:2], self.boxes, self.scores, self.labels)
        bgr = self.image[:, :, ::-1]
        return Image.fromarray(draw_detections(bgr, found, self.class_names, 0.0))

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Convert to COCO results: boxes as x, y, width, height; category ids count from 1.

        Args:
            image_id: of this image.
        """
        return [
            {"image_id": image_id, "category_id": label + 1, "bbox": box, "score": score}
            for box, score, label in zip(
                xywh(self.boxes).tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]

    def to_supervision(self) -> Any:
        """Convert to ``supervision.Detections``.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ImportError(
                "to_supervision needs the package supervision: pip install clq[supervision]"
            ) from None
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )
