"""COCO box metrics: the twelve COCO metrics and the AP of every class, in percent.

hotcoco computes them by default. pycocotools is the reference in the tests, and a fallback on
machines for which hotcoco has no build.
"""

import contextlib
import io
import itertools
import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from tabulate import tabulate

from ..data.formats.read import read_annotations
from ..data.records import as_coco, default_class_names, load_records
from ..utils.atomic_write import write_atomically
from .results import CLASS_AP_PREFIX, METRIC_NAMES, class_aps

logger = logging.getLogger(__name__)

BACKENDS = ("hotcoco", "pycocotools")
_DETECTIONS = "coco_instances_results.json"
COCO_LIMIT = 100  # detections of an image and class that COCO's metrics look at


def evaluate_boxes(
    ground_truth: Mapping[str, Any],
    detections: Iterable[Mapping[str, Any]],
    *,
    backend: str = "hotcoco",
    img_ids: Sequence[int] | None = None,
    max_detections: int = COCO_LIMIT,
) -> OrderedDict[str, float]:
    """Score detections against a COCO ground truth.

    Args:
        ground_truth: COCO dict with "images", "categories" and "annotations". An annotation may
            lack "area" (then width * height) and "iscrowd" (then 0).
        detections: COCO results, {"image_id", "category_id", "bbox" (x, y, w, h in pixels),
            "score"} each; may be empty.
        backend: one of `BACKENDS`.
        img_ids: images to score; all if None.
        max_detections: of an image and class that count, the best by score, at least COCO's 100.
            AR1, AR10 and AR100 keep their own limits.

    Returns:
        `METRIC_NAMES`, then "AP-<class name>" of each category by ascending id, all in percent. A
        name that several categories have is followed by the id.
        A metric is NaN if no ground-truth box defines it; with boxes but no detections it is 0.
    """
    coco_eval = run_coco_eval(
        ground_truth,
        detections,
        backend=backend,
        img_ids=img_ids,
        max_detections=max_detections,
    )
    # axes: IoU threshold, recall, category (ascending id), area range (0 = all), detection limit
    precision = np.asarray(coco_eval.eval["precision"])[..., -1]  # (10, 101, K, 4)
    recall = np.asarray(coco_eval.eval["recall"])  # (10, K, 4, 3 or 4)
    values = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0]]
    values += [precision[..., area] for area in (1, 2, 3)]
    values += [recall[..., 0, limit] for limit in (0, 1, 2)]
    values += [recall[..., area, -1] for area in (1, 2, 3)]
    results = OrderedDict(
        (name, _percent(value)) for name, value in zip(METRIC_NAMES, values, strict=True)
    )
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    for k, name in enumerate(unique_class_names(categories)):
        results[f"{CLASS_AP_PREFIX}{name}"] = _percent(precision[:, :, k, 0])
    return results


class CocoBoxEvaluator(DatasetEvaluator):
    """COCO evaluator for boxes, scored by `evaluate_boxes`.

    Unlike Detectron2's ``COCOEvaluator``, it gives twelve metrics instead of six, a class AP even
    for a single class, 0 instead of NaN if nothing was detected, and a choice of backend.
    """

    def __init__(
        self,
        *,
        dataset_name: str,
        output_dir: str | None = None,
        backend: str = "hotcoco",
        max_detections: int = COCO_LIMIT,
        num_classes: int = 0,
    ) -> None:
        """
        Args:
            dataset_name: registered data set, see `load_ground_truth`.
            output_dir: folder for coco_instances_results.json with the detections, one per data
                set; None writes nothing.
            backend: one of `BACKENDS`.
            max_detections: see `evaluate_boxes`.
            num_classes: of a data set that names none.
        """
        _load_backend(backend)  # fails here if the name is wrong or the package is missing
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._backend = backend
        self._max_detections = max(max_detections, COCO_LIMIT)
        self._ground_truth, mapping = load_ground_truth(dataset_name, num_classes)
        self._dataset_ids = {index: dataset_id for dataset_id, index in mapping.items()}
        self.reset()

    def reset(self) -> None:
        self._detections: dict[Any, list[dict[str, Any]]] = {}  # by image id

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            image_id = image["image_id"]
            self._detections[image_id] = instances_to_coco_json(instances, image_id)

    def evaluate(self) -> dict[str, OrderedDict[str, float]]:
        """Score the detections of all ranks, on rank 0; {"bbox": metrics}, or {} elsewhere."""
        gathered = comm.gather(self._detections)
        if not comm.is_main_process():
            return {}
        by_image = {image_id: found for part in gathered for image_id, found in part.items()}
        detections = self._to_dataset_ids(itertools.chain.from_iterable(by_image.values()))
        if self._output_dir:
            path = Path(self._output_dir, _DETECTIONS)
            write_atomically(path, json.dumps(detections).encode())
        if not by_image or "annotations" not in self._ground_truth:
            logger.info("%s has no annotations or no readable image.", self._dataset_name)
            return {}
        # Images that could not be read do not count.
        img_ids = list(by_image) if len(by_image) < len(self._ground_truth["images"]) else None
        results = evaluate_boxes(
            self._ground_truth,
            detections,
            backend=self._backend,
            img_ids=img_ids,
            max_detections=self._max_detections,
        )
        logger.info(
            "Box AP and AR of %s, over the best %d detections of an image and class:\n%s",
            self._dataset_name,
            self._max_detections,
            format_results(results),
        )
        return {"bbox": results}

    def _to_dataset_ids(self, detections: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Copy detections, with the json's category id in place of the class index."""
        dataset_ids = self._dataset_ids
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


def detections_file(output_dir: str | Path, dataset_name: str) -> Path:
    """Return the file of a run's detections on a data set, COCO results."""
    return Path(output_dir, "inference", dataset_name, _DETECTIONS)


def load_ground_truth(dataset_name: str, num_classes: int) -> tuple[dict[str, Any], dict[Any, int]]:
    """Load the ground truth of a registered data set.

    Args:
        dataset_name: key in Detectron2's catalogs.
        num_classes: of a data set that names none.

    Returns:
        A COCO dict, without "annotations" where there are none to know of; and class indices by
        category id. Without a json_file in the metadata, the records are the ground truth, and
        category ids are class indices.
    """
    records = None
    if not MetadataCatalog.get(dataset_name).get("json_file"):
        records = load_records(dataset_name)  # some data sets know their file only then
    metadata = MetadataCatalog.get(dataset_name)
    json_file = metadata.get("json_file")
    mapping = metadata.get("thing_dataset_id_to_contiguous_id")
    if json_file and mapping:
        local = PathManager.get_local_path(json_file)
        truth = read_annotations(local, metadata.get("image_root") or "").content
        truth["categories"] = [c for c in truth["categories"] if c["id"] in mapping]
        return truth, mapping
    names = metadata.get("thing_classes") or default_class_names(num_classes)
    truth = as_coco(load_records(dataset_name) if records is None else records, names)
    return truth, {category["id"]: category["id"] for category in truth["categories"]}


def unique_class_names(categories: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name COCO categories in their order; a name that several have is followed by the id."""
    categories = list(categories)
    counts = Counter(category["name"] for category in categories)
    return [f"{c['name']} ({c['id']})" if counts[c["name"]] > 1 else c["name"] for c in categories]


def format_results(results: Mapping[str, float]) -> str:
    """Format the twelve metrics as a table, with one of the class APs if there are several."""
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


def run_coco_eval(
    ground_truth: Mapping[str, Any],
    detections: Iterable[Mapping[str, Any]],
    *,
    backend: str = "hotcoco",
    img_ids: Sequence[int] | None = None,
    max_detections: int = COCO_LIMIT,
) -> Any:
    """Return the backend's `COCOeval` after accumulate(); arguments as in `evaluate_boxes`."""
    coco_class, coco_eval_class = _load_backend(backend)
    if any(type(image["id"]) is not int for image in ground_truth["images"]):
        ground_truth, detections, img_ids = _numbered(ground_truth, detections, img_ids)
    with contextlib.redirect_stdout(io.StringIO()):  # they print their progress and a table
        coco_gt = coco_class()
        coco_gt.dataset = _with_annotations(ground_truth, ground_truth["annotations"])
        coco_gt.createIndex()
        if backend == "hotcoco":
            coco_dt = coco_gt.loadRes(list(detections))  # completes a copy of them
        else:  # pycocotools' loadRes rejects an empty list, and changes the detections
            results = (_only(d, "image_id", "category_id", "bbox", "score") for d in detections)
            coco_dt = coco_class()
            coco_dt.dataset = _with_annotations(ground_truth, results)
            coco_dt.createIndex()
        coco_eval = coco_eval_class(coco_gt, coco_dt, "bbox")
        if img_ids is not None:
            coco_eval.params.imgIds = list(img_ids)
        limits = {1, 10, COCO_LIMIT, max(max_detections, COCO_LIMIT)}
        coco_eval.params.maxDets = sorted(limits)
        coco_eval.evaluate()
        coco_eval.accumulate()
    return coco_eval


def _numbered(
    ground_truth: Mapping[str, Any],
    detections: Iterable[Mapping[str, Any]],
    img_ids: Sequence[Any] | None,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[int] | None]:
    """Replace image ids that are texts, which Detectron2 allows, by numbers for the backend."""
    number_of = {image["id"]: i for i, image in enumerate(ground_truth["images"], start=1)}
    images = [{**image, "id": number_of[image["id"]]} for image in ground_truth["images"]]
    boxes, found = (
        [{**entry, "image_id": number_of[entry["image_id"]]} for entry in entries]
        for entries in (ground_truth["annotations"], detections)
    )
    numbers = None if img_ids is None else [number_of[id_] for id_ in img_ids]
    return {**ground_truth, "images": images, "annotations": boxes}, found, numbers


def _load_backend(backend: str) -> tuple[Any, Any]:
    """Import the classes `COCO` and `COCOeval`, which are alike in both backends."""
    if backend == "hotcoco":
        import hotcoco

        return hotcoco.COCO, hotcoco.COCOeval
    if backend == "pycocotools":
        from pycocotools import coco, cocoeval

        return coco.COCO, cocoeval.COCOeval
    raise ValueError(f"Unknown evaluation backend {backend!r}; choose from {BACKENDS}.")


def _with_annotations(
    ground_truth: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Build a COCO dict of the fields that scoring reads, so that others may be malformed.

    Ids start at 1: pycocotools takes a match with the annotation of id 0 for none.
    """
    return {
        "info": {},
        "images": [_only(image, "id", "width", "height") for image in ground_truth["images"]],
        "categories": [_only(category, "id", "name") for category in ground_truth["categories"]],
        "annotations": [_completed(a, id_) for id_, a in enumerate(annotations, start=1)],
    }


def _completed(annotation: Mapping[str, Any], id_: int) -> dict[str, Any]:
    area = annotation.get("area")
    if area is None:
        width, height = annotation["bbox"][2:]
        area = width * height
    read = _only(annotation, "image_id", "category_id", "bbox", "score")
    return {**read, "id": id_, "area": area, "iscrowd": annotation.get("iscrowd") or 0}


def _only(entry: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}


def _percent(values: np.ndarray) -> float:
    """The mean of COCO's fractions in percent; NaN where all are its -1 for undefined."""
    defined = values[values > -1]
    return float(np.mean(defined)) * 100 if defined.size else float("nan")
