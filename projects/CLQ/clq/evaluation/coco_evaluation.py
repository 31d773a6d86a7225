"""COCO box metrics: the twelve COCO numbers and the AP of every class, in percent.

hotcoco computes them by default. pycocotools is the reference that the tests compare with, and a
fallback for a machine that hotcoco has no build for.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from tabulate import tabulate

from .results import CLASS_AP_PREFIX, METRIC_NAMES, class_aps

logger = logging.getLogger(__name__)

BACKENDS = ("hotcoco", "pycocotools")


def evaluate_boxes(
    ground_truth: Mapping[str, Any],
    detections: Iterable[Mapping[str, Any]],
    *,
    backend: str = "hotcoco",
    img_ids: Sequence[int] | None = None,
) -> OrderedDict[str, float]:
    """Score detections against a COCO ground truth.

    Args:
        ground_truth: a COCO dict with "images", "categories" and "annotations". An annotation
            may lack "area" (then width * height) and "iscrowd" (then 0).
        detections: COCO results, {"image_id", "category_id", "bbox" (x, y, w, h in pixels),
            "score"} each; may be empty.
        backend: one of `BACKENDS`.
        img_ids: images to score; all images if None.

    Returns:
        `METRIC_NAMES`, then "AP-<class name>" for each category in the order of the category ids,
        all in percent. A number that no ground-truth box defines is nan; where there are boxes
        but no detections, it is 0.
    """
    coco_eval = run_coco_eval(ground_truth, detections, backend=backend, img_ids=img_ids)
    results = OrderedDict(
        (name, _percent(value)) for name, value in zip(METRIC_NAMES, coco_eval.stats, strict=True)
    )
    # axes: IoU threshold, recall, category (ascending id), area range (0 = all), detection limit
    precision = np.asarray(coco_eval.eval["precision"])[:, :, :, 0, -1]  # (10, 101, K)
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    for k, category in enumerate(categories):
        defined = precision[:, :, k][precision[:, :, k] > -1]
        ap = float(np.mean(defined)) if defined.size else -1.0
        results[f"{CLASS_AP_PREFIX}{category['name']}"] = _percent(ap)
    return results


class CocoBoxEvaluator(COCOEvaluator):
    """Detectron2's COCO evaluator for boxes, scored by `evaluate_boxes`.

    What differs: twelve numbers instead of six, a class AP even for a single class, 0 instead of
    nan when the model found nothing, and a choice of backend.
    """

    def __init__(
        self, *, dataset_name: str, output_dir: str | None = None, backend: str = "hotcoco"
    ) -> None:
        """
        Args:
            dataset_name: a registered data set. Without a json file in its metadata it is
                converted to one in `output_dir`.
            output_dir: folder for the detections (coco_instances_results.json and Detectron2's
                instances_predictions.pth); one per data set, or the last data set's stay. None
                writes nothing.
            backend: one of `BACKENDS`.
        """
        _load_backend(backend)  # a wrong name or a missing package is known before the work
        super().__init__(dataset_name, tasks=("bbox",), output_dir=output_dir, use_fast_impl=False)
        self._dataset_name = dataset_name
        self._backend = backend

    def _eval_predictions(
        self, predictions: list[dict[str, Any]], img_ids: Sequence[int] | None = None
    ) -> None:
        """Fill `self._results["bbox"]` (on the main process, with all processes' predictions)."""
        detections = self._to_dataset_ids(
            itertools.chain.from_iterable(image["instances"] for image in predictions)
        )
        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            with PathManager.open(path, "w") as file:
                file.write(json.dumps(detections))  # json.dump is half as fast
        if img_ids is None and len(predictions) < len(self._coco_api.dataset["images"]):
            img_ids = [image["image_id"] for image in predictions]  # the others can't be read
        if not self._do_evaluation:
            logger.info("%s has no annotations to evaluate on.", self._dataset_name)
            return
        results = evaluate_boxes(
            self._coco_api.dataset, detections, backend=self._backend, img_ids=img_ids
        )
        self._results["bbox"] = results
        logger.info("Box AP and AR of %s:\n%s", self._dataset_name, format_results(results))

    def _to_dataset_ids(self, detections: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Copy detections, with the contiguous class index replaced by the json's category id."""
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if mapping is None:  # the json was written from class indices
            mapping = {c["id"]: c["id"] for c in self._coco_api.dataset["categories"]}
        dataset_ids = {index: dataset_id for dataset_id, index in mapping.items()}
        renamed = []
        for detection in detections:
            index = detection["category_id"]
            if index not in dataset_ids:
                raise ValueError(
                    f"The model predicted class {index}, but {self._dataset_name} has only the "
                    f"classes {sorted(dataset_ids)}: does MODEL.CLQ.NUM_CLASSES fit the data?"
                )
            renamed.append({**detection, "category_id": dataset_ids[index]})
        return renamed


def format_results(results: Mapping[str, float]) -> str:
    """The twelve numbers as a table; below it one of the class APs if there are several."""
    text = create_small_table({name: results[name] for name in METRIC_NAMES})
    classes = list(class_aps(results).items())
    if len(classes) < 2:
        return text
    columns = min(3, len(classes))
    rows = [
        list(itertools.chain.from_iterable(classes[start : start + columns]))
        for start in range(0, len(classes), columns)
    ]
    headers = ["class", "AP"] * columns
    table = tabulate(rows, headers, tablefmt="pipe", floatfmt=".3f", numalign="left")
    return f"{text}\n{table}"


def _only(entry: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}


def _with_annotations(
    ground_truth: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The ground truth's images and categories with `annotations`, numbered and completed.

    Neither what a json lacks or has beside matters then, nor an empty list of detections. Ids start
    at 1: pycocotools counts a match with the annotation of id 0 as none.
    """
    return {
        "info": {},
        "images": [_only(image, "id", "width", "height") for image in ground_truth["images"]],
        "categories": [_only(category, "id", "name") for category in ground_truth["categories"]],
        "annotations": [_completed(a, id_) for id_, a in enumerate(annotations, start=1)],
    }


def _completed(annotation: Mapping[str, Any], id_: int) -> dict[str, Any]:
    """Keep what scoring reads of an annotation."""
    area = annotation.get("area")
    if area is None:
        width, height = annotation["bbox"][2:]
        area = width * height
    read = _only(annotation, "image_id", "category_id", "bbox", "score")
    return {**read, "id": id_, "area": area, "iscrowd": annotation.get("iscrowd") or 0}


def run_coco_eval(
    ground_truth: Mapping[str, Any],
    detections: Iterable[Mapping[str, Any]],
    *,
    backend: str = "hotcoco",
    img_ids: Sequence[int] | None = None,
) -> Any:
    """A `COCOeval` of the backend after summarize(); arguments as those of `evaluate_boxes`."""
    coco_class, coco_eval_class = _load_backend(backend)
    with contextlib.redirect_stdout(io.StringIO()):  # they print their progress and a table
        coco_gt = coco_class()
        coco_gt.dataset = _with_annotations(ground_truth, ground_truth["annotations"])
        coco_gt.createIndex()
        if backend == "hotcoco":
            coco_dt = coco_gt.loadRes(list(detections))  # completes them itself, without a copy
        else:  # pycocotools' loadRes refuses an empty list, and writes into the detections
            results = (_only(d, "image_id", "category_id", "bbox", "score") for d in detections)
            coco_dt = coco_class()
            coco_dt.dataset = _with_annotations(ground_truth, results)
            coco_dt.createIndex()
        coco_eval = coco_eval_class(coco_gt, coco_dt, "bbox")
        if img_ids is not None:
            coco_eval.params.imgIds = list(img_ids)
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


def _load_backend(backend: str) -> tuple[Any, Any]:
    """The classes `COCO` and `COCOeval`, which have the same interface in both backends."""
    if backend == "hotcoco":
        import hotcoco

        return hotcoco.COCO, hotcoco.COCOeval
    if backend == "pycocotools":
        from pycocotools import coco, cocoeval

        return coco.COCO, cocoeval.COCOeval
    raise ValueError(f"Unknown evaluation backend {backend!r}; choose from {BACKENDS}.")


def _percent(value: float) -> float:
    """COCO's fraction in percent; its mark for "not defined", -1, becomes nan."""
    return float(value) * 100 if value >= 0 else float("nan")
