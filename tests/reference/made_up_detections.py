"""Detections whose AP is known, for tests of the study."""

from typing import Any

import numpy as np

NUM_IMAGES = 12


def truth() -> dict[str, Any]:
    """Images with one object of each of two classes."""
    annotations = [
        {"id": 2 * i + k, "image_id": i, "category_id": k, "bbox": [10 * i, 5, 40, 40]}
        for i in range(1, NUM_IMAGES + 1)
        for k in (1, 4)
    ]
    return {
        "images": [{"id": i, "width": 300, "height": 100} for i in range(1, NUM_IMAGES + 1)],
        "categories": [{"id": 4, "name": "b"}, {"id": 1, "name": "a"}],
        "annotations": annotations,
    }


def detections(shift: float, seed: int = 0) -> list[dict[str, Any]]:
    """The objects, moved sideways by up to ``shift`` pixels."""
    rng = np.random.default_rng(seed)
    found = []
    for annotation in truth()["annotations"]:
        x, y, w, h = annotation["bbox"]
        box = [x + shift * float(rng.random()), y, w, h]
        ids = {key: annotation[key] for key in ("image_id", "category_id")}
        found.append({**ids, "bbox": box, "score": float(rng.uniform(0.1, 1))})
    return found
