"""Data sets and detections of any size for the report, all of whose images are one file."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = 320, 240  # width and height


def made_up_data(
    image_root: Path, *, num_images: int, class_names: list[str], boxes: int = 4
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO ground truth with about as many objects as detections, most of which match.

    Args:
        image_root: folder to write the image into.
        num_images: that the ground truth lists.
        class_names: with ids from 1.
        boxes: objects of an image.
    """
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 200, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(SIZE).save(image_root / "image.png")
    sizes = {"width": SIZE[0], "height": SIZE[1]}
    images = [{"id": i, "file_name": "image.png", **sizes} for i in range(1, num_images + 1)]
    annotations: list[dict[str, Any]] = []
    detections = []
    for image in images:
        for _ in range(boxes):
            box = np.array([*rng.uniform(0, 160, 2), *np.exp(rng.uniform(2.5, 5, 2))])
            label = int(rng.integers(len(class_names))) + 1
            object_ = {"image_id": image["id"], "category_id": label, "bbox": box.tolist()}
            annotations.append({"id": len(annotations) + 1, **object_})
            found = box + rng.normal(0, 0.08, 4) * box[[2, 3, 2, 3]]
            wrong = int(rng.integers(len(class_names))) + 1
            label = label if rng.random() < 0.85 else wrong
            score = float(rng.beta(4, 3))
            object_ = {**object_, "category_id": label, "bbox": np.maximum(found, 1).tolist()}
            detections.append({**object_, "score": score})
    categories = [{"id": k, "name": name} for k, name in enumerate(class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, detections
