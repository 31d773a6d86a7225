"""A made-up test set of many kinds of objects and detections, for tests of the report."""

from typing import Any

import numpy as np


def made_up_run(
    num_images: int = 12, seed: int = 0, with_crowds: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO ground truth and COCO results.

    Image ids fall, so that their order is not the json's; the last image is empty. Objects are of
    all sizes, some are crowds. Detections are objects shifted, often twice and sometimes of
    another class, and boxes anywhere; some have equal scores.
    """
    rng = np.random.default_rng(seed)
    ids = list(range(10 * num_images, 0, -10))
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image_id in ids[:-1]:
        for _ in range(rng.integers(1, 8)):
            width, height = np.exp(rng.uniform(np.log(8), np.log(200), 2))
            box = np.array([*rng.uniform(0, 200, 2), width, height])
            ids_of = {"image_id": image_id, "category_id": int(rng.choice([7, 2, 5]))}
            crowd = int(with_crowds and rng.random() < 0.15)
            row = {**ids_of, "bbox": box.tolist(), "iscrowd": crowd}
            annotations.append({"id": len(annotations) + 1, **row})
            for _ in range(rng.integers(0, 4)):
                near = box + rng.normal(0, 0.12, 4) * box[[2, 3, 2, 3]]
                found.append(_detection(rng, ids_of, near))
        anywhere = np.array([*rng.uniform(0, 200, 2), *rng.uniform(5, 120, 2)])
        found.append(_detection(rng, ids_of, anywhere))
    categories = [{"id": id_, "name": name} for id_, name in ((7, "c"), (2, "a"), (5, "b"))]
    images = [{"id": id_, "file_name": f"{id_}.jpg", "width": 400, "height": 400} for id_ in ids]
    return {"images": images, "categories": categories, "annotations": annotations}, found


def iou(box: list[float], other: list[float]) -> float:
    """Intersection over union of boxes (x, y, w, h)."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    intersection = max(width, 0) * max(height, 0)
    return intersection / (box[2] * box[3] + other[2] * other[3] - intersection)


def _detection(rng: np.random.Generator, ids: dict[str, int], box: np.ndarray) -> dict[str, Any]:
    category = ids["category_id"] if rng.random() < 0.8 else int(rng.choice([7, 2, 5]))
    score = round(float(rng.uniform(0.05, 1)), 2)
    return {**ids, "category_id": category, "bbox": np.maximum(box, 1).tolist(), "score": score}
