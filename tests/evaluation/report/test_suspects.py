"""Suspects of each kind by hand, and planted faults among the first suspects."""

import math
from typing import Any

import numpy as np
import pytest

from clq.evaluation.report.matches import match_run
from clq.evaluation.report.suspects import Suspect, find_suspects
from reference.made_up_run import iou

# Two classes; the odd images have an object of class 1 at this place, the others one of class 2.
PLACE = [20.0, 20.0, 40.0, 40.0]
NUM_IMAGES = 20


def clean_run() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects that all are detected with IoU 0.8; scores of each class are 0.5, 0.55 .. 0.95."""
    annotations, found = [], []
    for i in range(NUM_IMAGES):
        ids = {"image_id": i, "category_id": 1 + i % 2}
        annotations.append({"id": i, **ids, "bbox": PLACE})
        found.append({**ids, "bbox": [20, 20, 32, 40], "score": round(0.5 + 0.05 * (i // 2), 2)})
    images = [{"id": i, "width": 200, "height": 200} for i in range(NUM_IMAGES)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    return {"images": images, "categories": categories, "annotations": annotations}, found


def suspects(content: dict[str, Any], found: list[dict[str, Any]]) -> list[Suspect]:
    return find_suspects(match_run(content, found))


def test_what_agrees_is_not_suspected():
    assert suspects(*clean_run()) == []
    content, _ = clean_run()
    assert suspects({**content, "annotations": []}, []) == []


def test_a_detection_without_an_object_is_missing_from_the_data():
    """Seven of the 9 agreeing detections of its class that are left score no higher."""
    content, found = clean_run()
    content["annotations"] = content["annotations"][:14] + content["annotations"][15:]
    (suspect,) = suspects(content, found)
    assert suspect.kind == "missing" and suspect.object is None
    assert suspect.suspicion == pytest.approx((7 / 9) ** 2)


def test_a_second_detection_of_the_same_place_is_not_missing():
    content, found = clean_run()
    content["annotations"] = content["annotations"][:-1]
    again = {**found[-1], "score": 0.9, "category_id": 1, "bbox": [22, 20, 32, 40]}
    assert [suspect.kind for suspect in suspects(content, [*found, again])] == ["missing"]


def test_an_object_that_is_detected_as_another_class_has_a_wrong_class():
    """Its detection scores 0.9: as 8 of the 9 left of class 1, or better."""
    content, found = clean_run()
    content["annotations"][16]["category_id"] = 2
    (suspect,) = suspects(content, found)
    assert suspect[1:] == ("class", 16, suspect.detection)
    assert match_run(content, found).detections.row[suspect.detection] == 16
    assert suspect.suspicion == pytest.approx(math.sqrt(8 / 9))
    own = {**found[16], "category_id": 2, "score": 0.7}  # 6 of now 11, with itself, score no higher
    (suspect,) = suspects(content, [*found, own])
    assert suspect.kind == "class"
    assert suspect.suspicion == pytest.approx(math.sqrt(8 / 9) * (1 - 6 / 11))


def test_an_object_that_is_detected_beside_its_box_has_a_wrong_box():
    content, found = clean_run()
    content["annotations"][18]["bbox"] = [44.0, 20.0, 40.0, 40.0]
    overlap = iou([44, 20, 40, 40], found[18]["bbox"])
    (suspect,) = suspects(content, found)
    assert suspect.kind == "box" and suspect.object == 18 and overlap < 0.2
    assert suspect.suspicion == pytest.approx(1 - overlap / 0.8)


def test_an_object_that_nothing_confirms_is_spurious():
    content, found = clean_run()
    extra = {**content["annotations"][0], "id": 99, "bbox": [150.0, 150.0, 30.0, 30.0]}
    content["annotations"].append(extra)
    (suspect,) = suspects(content, found)
    assert suspect[1:] == ("spurious", NUM_IMAGES, None)
    assert suspect.suspicion == pytest.approx(10 / 11 / 2)


def test_crowds_are_not_suspected_and_explain_what_is_in_them():
    content, found = clean_run()
    content["annotations"][19]["iscrowd"] = 1
    content["annotations"][19]["bbox"] = [0, 0, 200, 200]
    content["annotations"][18].update(iscrowd=1, bbox=[150, 150, 20, 20])
    (suspect,) = suspects(content, found)
    assert suspect.kind == "missing" and suspect.detection is not None


@pytest.mark.parametrize("seed", range(3))
def test_planted_faults_are_among_the_first_suspects(seed: int):
    """Half of them, at least, among twice as many; the detector is far from perfect."""
    rng = np.random.default_rng(seed)
    content, found = noisy_run(rng)
    objects = content["annotations"]
    chosen = rng.choice(len(objects), 60, replace=False)
    dropped, swapped, shifted = chosen[:28], chosen[28:44], chosen[44:]
    for i in swapped:
        objects[i]["category_id"] = 1 + objects[i]["category_id"] % 3
    for i in shifted:
        x, y, width, height = objects[i]["bbox"]
        objects[i]["bbox"] = [x + 0.4 * width, y - 0.3 * height, width, height]
    planted = {(objects[i]["image_id"], tuple(objects[i]["bbox"])) for i in chosen}
    content["annotations"] = [a for i, a in enumerate(objects) if i not in set(dropped)]
    run = match_run(content, found)
    first = [place(run, suspect) for suspect in find_suspects(run)[:120]]
    hits = sum(
        any(image == i and iou(list(box), other) >= 0.5 for i, other in first)
        for image, box in planted
    )
    assert hits >= 0.6 * len(planted)


def place(run: Any, suspect: Suspect) -> tuple[int, list[float]]:
    if suspect.object is not None:
        return int(run.objects.image[suspect.object]), run.objects.box[suspect.object].tolist()
    row = suspect.detection
    return int(run.detections.image[row]), run.detections.box[row].tolist()


def noisy_run(rng: np.random.Generator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """60 images of 10 objects on a grid; a tenth is not detected, and much else is."""
    annotations, found = [], []
    for image_id in range(60):
        for i in range(10):
            box = [100.0 * (i % 5), 100.0 * (i // 5), *rng.uniform(40, 80, 2).tolist()]
            ids = {"image_id": image_id, "category_id": int(rng.integers(1, 4))}
            annotations.append({"id": len(annotations), **ids, "bbox": box})
            if rng.random() < 0.9:
                near = np.array(box) + rng.normal(0, 3, 4)
                found.append({**ids, "bbox": near.tolist(), "score": float(rng.beta(6, 3))})
            if rng.random() < 0.3:
                other = {**ids, "category_id": int(rng.integers(1, 4)), "bbox": box}
                found.append({**other, "score": float(rng.beta(2, 6))})
        for _ in range(4):
            box = [*rng.uniform(0, 400, 1).tolist(), 210.0, 50.0, 50.0]
            found.append(
                {
                    "image_id": image_id,
                    "category_id": int(rng.integers(1, 4)),
                    "bbox": box,
                    "score": float(rng.beta(2, 4)),
                }
            )
    images = [{"id": i, "width": 600, "height": 300} for i in range(60)]
    categories = [{"id": id_, "name": f"{id_}"} for id_ in (1, 2, 3)]
    return {"images": images, "categories": categories, "annotations": annotations}, found
