"""Objects as a picture: boxes with class name, and joint score where they are detections.

OpenCV, which Detectron2's Visualizer imports, is needed when something is drawn and not before.

Letters: H, W height and width of the image in pixels, S enlargement, P detections.
"""

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from detectron2.structures import Boxes, Instances

if TYPE_CHECKING:
    from detectron2.utils.visualizer import VisImage


# An image whose longer side is shorter is enlarged to about this, so that labels leave room.
_READABLE_SIDE = 800  # pixels
_SMALLEST_FONT = 8  # points


def draw_detections(
    image: np.ndarray, found: Instances, class_names: Sequence[str], score_threshold: float
) -> np.ndarray:
    """Draw what is found in an image, in one colour for each class.

    Args:
        image: (H, W, 3) uint8, blue first.
        found: ``pred_boxes`` in pixels of the image, ``scores`` and ``pred_classes``, on the host.
        class_names: by class index.
        score_threshold: lowest score to draw.

    Returns:
        (S*H, S*W, 3) uint8, red first; S is a whole number, 1 for all but small images.
    """
    found = found[found.scores >= score_threshold]
    classes = found.pred_classes.tolist()
    labels = [f"{class_names[k]} {score:.2f}" for k, score in zip(classes, found.scores.tolist())]
    return _draw(image, found.pred_boxes, classes, labels)


def draw_ground_truth(
    image: np.ndarray, objects: Instances, class_names: Sequence[str]
) -> np.ndarray:
    """Draw what there is in an image, as :func:`draw_detections` does.

    Args:
        image: (H, W, 3) uint8, blue first.
        objects: ``gt_boxes`` in pixels of the image and ``gt_classes``, on the host.
        class_names: by class index.
    """
    classes = objects.gt_classes.tolist()
    return _draw(image, objects.gt_boxes, classes, [class_names[k] for k in classes])


def _draw(
    image: np.ndarray, boxes: Boxes, classes: Sequence[int], labels: Sequence[str]
) -> np.ndarray:
    """The enlarged picture with P boxes; see :func:`draw_detections`."""
    import cv2
    from detectron2.utils.visualizer import Visualizer

    scale = max(1, round(_READABLE_SIDE / max(image.shape[:2])))
    enlarged = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    visualizer = Visualizer(np.ascontiguousarray(enlarged[:, :, ::-1]))
    output = visualizer.overlay_instances(
        boxes=boxes.tensor.numpy() * scale,  # (P, 4)
        # Between two dollars, matplotlib would set a formula.
        labels=[label.replace("$", r"\$") for label in labels],
        assigned_colors=[_color_of(k) for k in classes],
    )
    _fit_labels(output)
    return output.get_image()


def _color_of(class_index: int) -> tuple[float, float, float]:
    """A bright colour, far in hue from those of the classes before: cyan, then by golden angles."""
    return colorsys.hsv_to_rgb((0.52 + 0.618034 * class_index) % 1, 0.85, 1.0)


def _fit_labels(output: "VisImage") -> None:
    """Make small labels readable, and move those inside that reach beyond the picture."""
    renderer = output.canvas.get_renderer()
    width, height = output.canvas.get_width_height()
    to_data = output.ax.transData.inverted()
    for text in output.ax.texts:
        text.set_fontsize(max(text.get_fontsize(), _SMALLEST_FONT))
        box = text.get_window_extent(renderer)  # in pixels, counted from below
        inside = [
            max(min(box.x0, width - box.width), 0),
            min(max(box.y1, box.height), height),
        ]
        shift = to_data.transform(inside) - to_data.transform([box.x0, box.y1])
        text.set_position(np.add(text.get_position(), shift))
