"""Draw boxes with labels and scores.

OpenCV, which Detectron2's Visualizer imports, is imported only to draw.

Letters: H, W height and width of the image in pixels, S scale factor, P boxes.
"""

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from detectron2.structures import Instances

from ..runtime.detections import ImageDetections
from ..utils.unprintable import escape_unprintable

if TYPE_CHECKING:
    from detectron2.utils.visualizer import VisImage


_MIN_SIDE = 800  # pixels; smaller images are enlarged to about this, to leave room for labels
_MIN_FONT_SIZE = 8  # points
_MAX_NAME_LENGTH = 60  # characters


def draw_detections(
    image: np.ndarray, found: ImageDetections, class_names: Sequence[str], score_threshold: float
) -> np.ndarray:
    """Draw detections, in one colour per class.

    Args:
        image: (H, W, 3) uint8 BGR.
        found: in pixels of the image.
        class_names: by class index.
        score_threshold: lowest score to draw.

    Returns:
        (S*H, S*W, 3) uint8 RGB; S is an integer, 1 for all but small images.
    """
    found = found.select(found.scores >= score_threshold)
    classes = found.classes.tolist()
    labels = [
        f"{_name_of(class_names[k])} {score:.2f}"
        for k, score in zip(classes, found.scores.tolist())
    ]
    return _draw(image, found.boxes, classes, labels)


def draw_ground_truth(
    image: np.ndarray, objects: Instances, class_names: Sequence[str]
) -> np.ndarray:
    """Draw ground truth, as :func:`draw_detections` does without scores.

    Args:
        image: (H, W, 3) uint8 BGR.
        objects: ``gt_boxes`` in pixels of the image and ``gt_classes``, on CPU.
        class_names: by class index.
    """
    classes = objects.gt_classes.tolist()
    boxes = objects.gt_boxes.tensor.numpy()
    return _draw(image, boxes, classes, [_name_of(class_names[k]) for k in classes])


def _name_of(name: str) -> str:
    """Return a class name in one line of bounded length."""
    name = escape_unprintable(name)
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[:_MAX_NAME_LENGTH]}..."


def _draw(
    image: np.ndarray, boxes: np.ndarray, classes: Sequence[int], labels: Sequence[str]
) -> np.ndarray:
    """Draw boxes xyxy, (P, 4), on the enlarged image."""
    import cv2
    from detectron2.utils.visualizer import Visualizer

    scale = max(1, round(_MIN_SIDE / max(image.shape[:2])))
    enlarged = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    visualizer = Visualizer(np.ascontiguousarray(enlarged[:, :, ::-1]))
    output = visualizer.overlay_instances(
        boxes=boxes * scale,
        # Matplotlib would typeset text between dollars as a formula.
        labels=[label.replace("$", r"\$") for label in labels],
        assigned_colors=[_color_of(k) for k in classes],
    )
    _fit_labels(output)
    return output.get_image()


def _color_of(class_index: int) -> tuple[float, float, float]:
    """Choose a bright colour; hues of consecutive classes differ by the golden angle."""
    return colorsys.hsv_to_rgb((0.52 + 0.618034 * class_index) % 1, 0.85, 1.0)


def _fit_labels(output: "VisImage") -> None:
    """Enlarge small labels, and move labels inside that extend beyond the image."""
    renderer = output.canvas.get_renderer()
    width, height = output.canvas.get_width_height()
    to_data = output.ax.transData.inverted()
    for text in output.ax.texts:
        text.set_fontsize(max(text.get_fontsize(), _MIN_FONT_SIZE))
        box = text.get_window_extent(renderer)  # in pixels, from the bottom
        inside = [
            max(min(box.x0, width - box.width), 0),
            min(max(box.y1, box.height), height),
        ]
        shift = to_data.transform(inside) - to_data.transform([box.x0, box.y1])
        text.set_position(np.add(text.get_position(), shift))
