"""The images to look at: where AP is lost, which objects are missed, which detections are false,
and which labels may be wrong.
"""

from typing import Any

import numpy as np

from .image_losses import largest_losses
from .matches import MatchedRun
from .suspects import find_suspects
from .tables import Table, Truth

_NUM_IMAGES = 12
_NUM_BOXES = 24
_NUM_SUSPECTS = 1000


def measure_images(truth: Truth, run: MatchedRun, score: float) -> dict[str, list[dict[str, Any]]]:
    """List the worst images, the largest missed objects and the most confident false detections.

    Args:
        truth: COCO dict.
        run: matched to it.
        score: threshold of the detections that count as given, but not for the loss of AP.
    """
    num_images = len(truth["images"])
    is_given = run.detections.score >= score
    is_false = is_given & ~(run.matches.is_match | run.matches.is_ignored)[:, 0]
    is_found = np.zeros(len(run.objects), dtype=bool)
    is_found[run.found[is_given & run.matches.is_match[:, 0]]] = True
    is_missed = ~is_found & ~run.objects.is_crowd
    missed = np.flatnonzero(is_missed)
    missed = missed[np.argsort(-run.objects.area[missed], kind="stable")[:_NUM_BOXES]]
    false = np.flatnonzero(is_false)[:_NUM_BOXES]
    numbers = {
        "missed": np.bincount(run.objects.image[is_missed], minlength=num_images),
        "false": np.bincount(run.detections.image[is_false], minlength=num_images),
        "found": np.bincount(run.objects.image[is_found], minlength=num_images),
    }
    return {
        "worst": [
            {
                **image_entry(truth, i),
                "loss": loss,
                **{name: int(counts[i]) for name, counts in numbers.items()},
            }
            for i, loss in largest_losses(run.matches, _NUM_IMAGES).items()
        ],
        "missed": [_object_entry(truth, run, row) for row in missed.tolist()],
        "false": [
            {**_entry(truth, run.detections, row), "score": float(run.detections.score[row])}
            for row in false.tolist()
        ],
    }


def measure_suspects(truth: Truth, run: MatchedRun) -> list[dict[str, Any]]:
    """List the labels that may be wrong, at most 1,000, the most suspicious first.

    A missing label has box and class of the detection. What is suggested instead of a label is the
    detection that contradicts it; nothing where a label is spurious.
    """
    entries = []
    for suspicion, kind, object_row, detection_row in find_suspects(run)[:_NUM_SUSPECTS]:
        suggested = {} if detection_row is None else _entry(truth, run.detections, detection_row)
        if object_row is None:
            label = {**suggested, "annotation_id": None}
        else:
            label = _object_entry(truth, run, object_row)
        entries.append(
            {
                **label,
                "kind": kind,
                "suggested": (
                    {key: suggested[key] for key in ("bbox", "label")} if suggested else None
                ),
                "score": suspicion,
            }
        )
    return entries


def image_entry(truth: Truth, index: int) -> dict[str, Any]:
    """Id and file name of an image, by its index in the json."""
    image = truth["images"][index]
    return {"image_id": image["id"], "file_name": image.get("file_name", "")}


def _object_entry(truth: Truth, run: MatchedRun, row: int) -> dict[str, Any]:
    id_ = truth["annotations"][row].get("id")
    return {**_entry(truth, run.objects, row), "annotation_id": id_}


def _entry(truth: Truth, table: Table, row: int) -> dict[str, Any]:
    return {
        **image_entry(truth, int(table.image[row])),
        "bbox": table.box[row].tolist(),
        "label": int(table.label[row]),
    }
