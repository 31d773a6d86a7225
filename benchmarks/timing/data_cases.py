"""Evaluation and data loading, each beside what people would use instead.

Each function does its set-up and gives two callables, ours and the peer, that do one timed run.

Letters: H, W height and width of an image, M boxes, P detections.
"""

import contextlib
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from clq.config import get_clq_cfg
from clq.data import CLQMapper, TrainLoader, build_train_augmentations
from clq.evaluation import METRIC_NAMES, evaluate_boxes

__all__ = ["data_loading", "evaluation"]

_CONFIG = Path(__file__).parents[2] / "configs" / "Base-CLQ.yaml"
_NUM_CLASSES = 80
_BOXES = 7  # an image
_SIZE = np.array([640, 480])  # width and height of a wide image
_FILES, _LOADED, _BATCH_SIZE = 64, 400, 2  # images


def evaluation(
    num_images: int = 5000, detections: int = 100
) -> tuple[Callable[[], list[float]], Callable[[], list[float]]]:
    """COCO's twelve numbers in percent: by `evaluate_boxes`, and by pycocotools as its demo does.

    Inside the timing is all from ground truth and detections, which are Python objects in memory,
    to the numbers. Reading and writing json is not. Each side has its own copy of the objects, as
    pycocotools writes into them.

    Args:
        num_images: of 80 classes.
        detections: of each image.
    """
    truth, found = _scored_images(num_images, detections)
    peer_truth, peer_found = _scored_images(num_images, detections)

    def ours() -> list[float]:
        results = evaluate_boxes(truth, found)
        return [results[name] for name in METRIC_NAMES]

    def peer() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            coco_gt = COCO()
            coco_gt.dataset = peer_truth
            coco_gt.createIndex()
            coco_eval = COCOeval(coco_gt, coco_gt.loadRes(peer_found), "bbox")
            coco_eval.evaluate()
            coco_eval.accumulate()
            coco_eval.summarize()
        return [100 * float(value) for value in coco_eval.stats]

    return ours, peer


def data_loading(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """400 training images in batches of 2, by our loader and by Detectron2's with its mapper.

    Inside the timing is all from the file to the tensor of the resized and flipped image and its
    boxes, in the process itself: no worker hides what an image costs. The settings are those of
    `configs/Base-CLQ.yaml`: shorter side 800, longer at most 1333. Making the files, and the
    loaders before their first batch, is not inside. The files are in the system's cache.

    Args:
        folder: where the 64 JPEG files are written.
    """
    records = _write_images(folder)
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(_CONFIG))
    return _endless(_our_loader(cfg, records)), _endless(_peer_loader(cfg, records))


def _our_loader(cfg: CfgNode, records: list[dict[str, Any]]) -> TrainLoader:
    return TrainLoader(
        records,
        CLQMapper(cfg, is_train=True, augmentations=build_train_augmentations(cfg)),
        sampler=lambda seed: TrainingSampler(len(records), seed=seed),
        seed=0,
        batch_size=_BATCH_SIZE,
    )


def _peer_loader(cfg: CfgNode, records: list[dict[str, Any]]) -> Any:
    return build_detection_train_loader(
        records,
        mapper=DatasetMapper(cfg, is_train=True),
        sampler=TrainingSampler(len(records), seed=0),
        total_batch_size=_BATCH_SIZE,
        num_workers=0,
    )


def _endless(loader: Any) -> Callable[[], None]:
    """A run that takes the next batches of a loader, after the first, which starts it."""
    batches = iter(loader)
    next(batches)

    def run() -> None:
        for _ in itertools.islice(batches, _LOADED // _BATCH_SIZE):
            pass

    return run


def _scored_images(num_images: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO ground truth, and its results."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        boxes = _boxes(rng, int(rng.poisson(_BOXES)))  # (M, 4)
        classes = rng.integers(_NUM_CLASSES, size=len(boxes))  # (M,)
        crowds = rng.random(len(boxes)) < 0.02
        for box, k, crowd in zip(boxes.tolist(), classes.tolist(), crowds.tolist()):
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": k + 1}
            area = box[2] * box[3] * 0.7  # of an outline in the box
            annotations.append({**ids, "bbox": box, "area": area, "iscrowd": int(crowd)})
        columns = _found(rng, boxes, classes, detections)
        for box, k, score in zip(*(column.tolist() for column in columns)):
            ids = {"image_id": image_id, "category_id": k + 1}
            results.append({**ids, "bbox": box, "score": score})
    images = [{"id": i + 1, "width": 640, "height": 480} for i in range(num_images)]
    categories = [{"id": k + 1, "name": f"class {k + 1}"} for k in range(_NUM_CLASSES)]
    return {"images": images, "categories": categories, "annotations": annotations}, results


def _found(
    rng: np.random.Generator, boxes: np.ndarray, classes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make detections: true boxes moved, up to half of all, and others of low score.

    Scores have three decimals, so that some are tied.

    Args:
        rng: draws.
        boxes: (M, 4) true boxes, x, y, width and height in pixels.
        classes: (M,) their class indices.
        count: P, how many to find.

    Returns:
        Boxes (P, 4), class indices (P,) and scores (P,).
    """
    owner = rng.integers(len(boxes), size=min(7 * len(boxes), count // 2))
    near = boxes[owner] + rng.normal(0, 0.08, (len(owner), 4)) * np.tile(boxes[owner, 2:], 2)
    near[:, 2:] = near[:, 2:].clip(min=1)
    guesses = rng.integers(_NUM_CLASSES, size=count)
    kept = rng.random(len(owner)) < 0.85
    guesses[: len(owner)][kept] = classes[owner][kept]
    others = count - len(owner)
    scores = np.concatenate((rng.beta(3, 3, len(owner)), rng.beta(1, 5, others)))
    return np.concatenate((near, _boxes(rng, others))), guesses, scores.round(3)


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) boxes in a wide image, x, y, width and height in pixels."""
    sides = np.exp(rng.uniform(np.log(8), np.log(320), (count, 2)))
    return np.concatenate((rng.random((count, 2)) * (_SIZE - sides), sides), axis=1)


def _write_images(folder: Path) -> list[dict[str, Any]]:
    """Write JPEG files of 640 x 480 pixels, a quarter of them high, and give their records."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(_FILES):
        pixels, boxes = _photograph(rng), _boxes(rng, _BOXES)
        if i % 4 == 3:
            pixels, boxes = pixels.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2]]
        path = folder / f"{i}.jpg"
        Image.fromarray(pixels).save(path, quality=92)
        annotations = [
            {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": k, "iscrowd": 0}
            for k, box in enumerate(boxes.tolist())
        ]
        height, width = pixels.shape[:2]
        record = {"file_name": str(path), "image_id": i, "height": height, "width": width}
        records.append({**record, "annotations": annotations})
    return records


def _photograph(rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: noise of all scales, the coarser the stronger, as in photographs."""
    width, height = _SIZE.tolist()
    pixels = np.full((height, width, 3), 120.0)
    for cells, strength in ((4, 25), (16, 13), (64, 8), (256, 4)):
        grid = rng.normal(0, strength, (cells * height // width + 1, cells + 1, 3))
        pixels += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels += cv2.GaussianBlur(rng.normal(0, 22, pixels.shape), (0, 0), 0.7)
    return pixels.clip(0, 255).astype(np.uint8)
