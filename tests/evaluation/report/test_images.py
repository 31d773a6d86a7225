"""Lists of images, objects, detections and labels, and their order."""

from typing import Any

from clq.evaluation.report.images import measure_images, measure_suspects
from clq.evaluation.report.matches import match_run
from reference.made_up_run import made_up_run

BIG, SMALL = [0.0, 0.0, 60.0, 60.0], [100.0, 0.0, 20.0, 20.0]


def two_images() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Image "p" is right, "q" has a big object missed, a small one found, and a false detection."""
    rows = [("p", BIG, 7), ("p", SMALL, 3), ("q", BIG, 3), ("q", SMALL, 7)]
    annotations = [
        {"id": 10 + i, "image_id": image_id, "category_id": category, "bbox": box}
        for i, (image_id, box, category) in enumerate(rows)
    ]
    crowd = {"id": 20, "image_id": "q", "category_id": 3, "bbox": [0, 100, 50, 50], "iscrowd": 1}
    found = [{**a, "score": 0.9 - 0.1 * i} for i, a in enumerate(annotations) if i != 2]
    nowhere = {"image_id": "q", "category_id": 7, "bbox": [150.0, 150.0, 9.0, 9.0], "score": 0.95}
    in_crowd = {"image_id": "q", "category_id": 3, "bbox": [5.0, 105.0, 9.0, 9.0], "score": 0.99}
    content = {
        "images": [{"id": id_, "width": 200, "height": 200} for id_ in "pq"],
        "categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}],
        "annotations": [*annotations, crowd],
    }
    content["images"][1]["file_name"] = "q.jpg"
    return content, [*found, nowhere, in_crowd]


def test_lists_of_two_images():
    content, found = two_images()
    images = measure_images(content, match_run(content, found), 0.5)
    (worst,) = images["worst"]
    q = {"image_id": "q", "file_name": "q.jpg"}
    assert worst == {**q, "loss": worst["loss"], "missed": 1, "false": 1, "found": 1}
    assert worst["loss"] > 20  # without it the AP is 100
    assert images["missed"] == [{**q, "bbox": BIG, "label": 0, "annotation_id": 12}]
    assert images["false"] == [{**q, "bbox": [150, 150, 9, 9], "label": 1, "score": 0.95}]


def test_the_threshold_decides_what_is_missed_and_false():
    content, found = two_images()
    images = measure_images(content, match_run(content, found), 0.85)
    assert [m["annotation_id"] for m in images["missed"]] == [12, 11, 13]  # the largest first
    assert len(images["false"]) == 1
    images = measure_images(content, match_run(content, found), 0.96)
    assert images["false"] == [] and len(images["missed"]) == 4


def test_suspects_say_what_is_suggested_instead():
    content, found = two_images()
    found.append({**content["annotations"][2], "category_id": 7, "score": 0.97})
    by_kind = {s["kind"]: s for s in measure_suspects(content, match_run(content, found))}
    q = {"image_id": "q", "file_name": "q.jpg"}
    assert by_kind["class"] == {
        **q,
        "kind": "class",
        "bbox": BIG,
        "label": 0,
        "annotation_id": 12,
        "suggested": {"bbox": BIG, "label": 1},
        "score": by_kind["class"]["score"],
    }
    missing = {"bbox": [150.0, 150.0, 9.0, 9.0], "label": 1}
    assert by_kind["missing"] == {
        **q,
        "kind": "missing",
        **missing,
        "annotation_id": None,
        "suggested": missing,
        "score": by_kind["missing"]["score"],
    }
    without = [d for d in found if d["image_id"] != "q"]
    by_kind = {s["kind"]: s for s in measure_suspects(content, match_run(content, without))}
    assert by_kind["spurious"]["suggested"] is None


def test_lists_are_of_limited_length_and_in_order():
    content, found = made_up_run(300)
    run = match_run(content, found)
    images, suspects = measure_images(content, run, 0.0), measure_suspects(content, run)
    assert [len(images[key]) for key in ("worst", "missed", "false")] == [12, 24, 24]
    assert len(suspects) == 1000
    areas = [m["bbox"][2] * m["bbox"][3] for m in images["missed"]]
    orders = [areas, [f["score"] for f in images["false"]], [s["score"] for s in suspects]]
    orders.append([w["loss"] for w in images["worst"]])
    assert all(order == sorted(order, reverse=True) for order in orders)
    assert all(0 <= suspect["score"] <= 1 for suspect in suspects)
