"""Data sets and detections of any size for the report, all of whose images are one file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clq.config import get_clq_cfg
from clq.data import register_coco_json
from clq.evaluation.coco_evaluation import detections_file
from clq.evaluation.report.run_report import report_run

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


def write_made_up_report(
    folder: Path, *, class_names: list[str], with_detections: bool = True, **sizes: int
) -> tuple[Path, dict[str, Any]]:
    """Report on made-up detections.

    Args:
        folder: to write into.
        class_names: of the data.
        with_detections: False for a detector that finds nothing.
        sizes: of :func:`made_up_data`.

    Returns:
        The page, and the content of its report.json.
    """
    truth, found = made_up_data(folder, class_names=class_names, **sizes)
    (folder / "val.json").write_text(json.dumps(truth))
    register_coco_json("made up", folder / "val.json", folder)
    cfg = get_clq_cfg()
    cfg.DATASETS.TEST, cfg.OUTPUT_DIR = ("made up",), str(folder)
    cfg.MODEL.CLQ.NUM_CLASSES = len(class_names)
    path = detections_file(folder, "made up")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(found if with_detections else []))
    (page,) = report_run(cfg, "weights of 'mine'.pth", folder / "report")
    return page, json.loads((page.parent / "report.json").read_text())
