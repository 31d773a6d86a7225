"""Confusion against plain greedy matching, and TIDE's errors on a case worked out by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from clq.evaluation.report.errors import measure_confusion, measure_errors
from clq.evaluation.report.matches import match_run
from reference.made_up_run import iou, made_up_run

NAMES = ["a", "b", "c"]


def plain_confusion(
    content: dict[str, Any], found: Sequence[dict[str, Any]], score: float
) -> list[list[int]]:
    """The matrix, one detection after the other."""
    ids = sorted(category["id"] for category in content["categories"])
    num_classes = len(ids)
    matrix = [[0] * (num_classes + 1) for _ in range(num_classes + 1)]
    for image in content["images"]:
        here = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        objects = [a for a in here if not a.get("iscrowd")]
        kept = [d for d in found if d["image_id"] == image["id"] and d["score"] >= score]
        for detection in sorted(kept, key=lambda d: -d["score"]):
            column = ids.index(detection["category_id"])
            overlaps = [iou(detection["bbox"], o["bbox"]) for o in objects]
            best = max(range(len(objects)), key=lambda i: overlaps[i], default=None)
            if best is not None and overlaps[best] >= 0.5:
                matrix[ids.index(objects.pop(best)["category_id"])][column] += 1
            else:
                matrix[-1][column] += 1
        for missed in objects:
            matrix[ids.index(missed["category_id"])][-1] += 1
    return matrix


@pytest.mark.parametrize("score", (0.0, 0.4, 0.97))
@pytest.mark.parametrize("seed", range(10))
def test_confusion_is_that_of_plain_matching(seed: int, score: float):
    content, found = made_up_run(seed=seed)
    found = [{**d, "score": d["score"] + 1e-5 * i} for i, d in enumerate(found)]  # no two equal
    run = match_run(content, found)
    confusion = measure_confusion(content, found, run, NAMES, score)
    assert confusion["score"] == score and confusion["iou"] == 0.5
    outside = [found[row] for row in run.detections.row[~run.matches.is_ignored[:, 0]]]
    assert len(outside) < len(found)  # the others are in crowds
    assert confusion["matrix"] == plain_confusion(content, outside, score)
    assert "worst_pairs" not in confusion


def test_confusion_without_detections_is_background():
    content, _ = made_up_run(with_crowds=False)
    matrix = measure_confusion(content, [], match_run(content, []), NAMES, 0.0)["matrix"]
    assert [sum(row) for row in matrix] == [row[-1] for row in matrix]
    assert sum(map(sum, matrix)) == len(content["annotations"])


def test_many_classes_have_a_list_of_the_worst_pairs():
    content, found = made_up_run(40)
    content["categories"] = [{"id": id_, "name": f"{id_}"} for id_ in range(1, 41)]
    names = [f"{id_}" for id_ in range(1, 41)]
    confusion = measure_confusion(content, found, match_run(content, found), names, 0.3)
    labels = [*names, "background"]
    expected = {
        (labels[i], labels[j]): count
        for i, row in enumerate(confusion["matrix"])
        for j, count in enumerate(row)
        if i != j and count
    }
    pairs = {(p["truth"], p["predicted"]): p["count"] for p in confusion["worst_pairs"]}
    assert pairs == expected  # few enough here
    assert list(pairs.values()) == sorted(pairs.values(), reverse=True)


def box(x: float, width: float = 10) -> list[float]:
    """Its IoU with the box at the same x and of width 10 is width / 10."""
    return [x, 0, width, 10]


def test_each_of_tides_errors_costs_what_mending_it_gains():
    """Class a has five objects. Its detections, best first, and one of class b on the fourth."""
    places = {"a": (0, 20, 40, 60, 80), "b": (100,)}
    truth = {
        "images": [{"id": 1, "width": 200, "height": 50}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": category, "bbox": box(x)}
            for i, (category, x) in enumerate(
                (category, x) for category, name in ((1, "a"), (2, "b")) for x in places[name]
            )
        ],
    }
    found = [
        (1, box(100, 3), 0.97),  # neither class nor box of b's object: both
        (1, box(150), 0.95),  # background
        (1, box(0), 0.9),  # right
        (1, box(0, 9), 0.85),  # duplicate
        (1, box(20), 0.8),  # right
        (1, box(40, 4), 0.7),  # localization
        (2, box(60), 0.6),  # classification
        (2, box(100), 0.99),  # right
    ]
    keys = ("category_id", "bbox", "score")
    results = [{"image_id": 1, **dict(zip(keys, row))} for row in found]
    errors = measure_errors(truth, results, max_detections=100)
    base = average_precision("--+-+-", 5)
    mended = {
        "classification": average_precision("--+-+-+", 5),
        "localization": average_precision("--+-++", 5),
        "both": average_precision("-+-+-", 5),
        "duplicate": average_precision("--++-", 5),
        "background": average_precision("-+-+-", 5),
        "missed": average_precision("--+-+-", 4),  # the fifth counts no more
    }
    assert errors["counts"] == dict.fromkeys(mended, 1)
    assert errors["ap50"] == pytest.approx((base + 100) / 2)  # of b nothing is lost
    gains = {name: (ap - base) / 2 for name, ap in mended.items()}
    assert errors["delta_ap"] == pytest.approx(gains)


def average_precision(detections: str, num_objects: int) -> float:
    """AP in percent of detections, best first, of which "+" are right."""
    precision, recall = [], []
    for i in range(1, len(detections) + 1):
        found = detections[:i].count("+")
        precision.append(found / i)
        recall.append(found / num_objects)
    points = [
        max((p for p, r in zip(precision, recall) if r >= point / 100 - 1e-9), default=0)
        for point in range(101)
    ]
    return 100 * sum(points) / 101


@pytest.mark.parametrize("any_objects", (False, True))
def test_errors_without_detections(any_objects: bool):
    content, _ = made_up_run(with_crowds=False)
    content["annotations"] = content["annotations"] if any_objects else []
    errors = measure_errors(content, [], max_detections=100)
    assert errors["counts"].pop("missed") == len(content["annotations"])
    assert set(errors["counts"].values()) == {0}
    assert errors["ap50"] == (0 if any_objects else None)
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    assert measure_errors(content, [], max_detections=100)["ap50"] is None
