"""Notes on boxes, categories and images."""

from typing import Any

import hotcoco
import numpy as np
import pytest

from clq.data.coco.findings import Finding
from clq.data.coco.table import CocoTable
from clq.data.coco.validate import check_content
from clq.data_report.annotation_health import check_health

BOXES = {  # by annotation id, in an image of 60 x 40
    1: [0, 0, 60, 40],
    2: [5, 5, 0, 5],
    3: [5, 5, 5, -1],
    4: [60, 5, 5, 5],
    5: [-9, 5, 9, 5],
    6: [5, 35, 5, 5.02],
    7: [-1, -1, 100, 100],
    8: [5, 35, 5, 5.005],  # within rounding
}


def table_of(annotations: list[dict[str, Any]], categories: list[tuple[int, str]]) -> CocoTable:
    table = check_content(
        {
            "images": [
                {"id": 2**63 - 1, "file_name": "a.png", "width": 60, "height": 40},
                {"id": 0, "file_name": "b.png", "width": 60, "height": 40},
            ],
            "annotations": annotations,
            "categories": [{"id": id_, "name": name} for id_, name in categories],
        }
    )
    assert table.errors == []
    return table


def annotation(id_: int, box: list[float], **more: Any) -> dict[str, Any]:
    return {"id": id_, "image_id": 2**63 - 1, "category_id": 5, "bbox": box, **more}


@pytest.fixture
def table() -> CocoTable:
    annotations = [annotation(id_, box) for id_, box in BOXES.items()]
    annotations += [annotation(9, [1, 1, 5, 0], iscrowd=1), annotation(10, [1, 1, 2, 2], iscrowd=1)]
    annotations += [annotation(-11, [1, 1, 3, 3], segmentation=[[1, 1]])]
    return table_of(annotations, [(5, "dot"), (2, "bar"), (8, "dot")])


def by_kind(table: CocoTable, **options: Any) -> dict[str, Finding]:
    findings = check_health(table, **options)
    assert not any(finding.is_error for finding in findings)
    return {finding.kind: finding for finding in findings}


def annotations_of(finding: Finding) -> list[str]:
    assert finding.count == len(finding.examples)
    return [example.subject.split()[1] for example in finding.examples]


def test_boxes_are_sorted_out(table: CocoTable):
    found = by_kind(table)
    assert annotations_of(found["boxes_without_area"]) == ["2", "3"]
    assert annotations_of(found["boxes_outside_image"]) == ["4", "5"]
    assert annotations_of(found["boxes_beyond_border"]) == ["6", "7"]
    assert annotations_of(found["crowd_regions"]) == ["9", "10"]
    assert str(found["boxes_without_area"].examples[0]) == (
        "annotation 2 of a.png has the bbox [5, 5, 0, 5]"
    )


def test_images_without_objects(table: CocoTable):
    finding = by_kind(table)["images_without_objects"]
    assert finding.sentence == "images without objects: 1 of 2 (50.0%); train as negatives"
    assert str(finding.examples[0]) == "image b.png has no object to train on"
    finding = by_kind(table, keeps_empty=False)["images_without_objects"]
    assert finding.sentence.endswith("left out of training")


def test_an_image_of_what_does_not_train_is_without_objects():
    for left_out in (
        annotation(1, [5, 5, 0, 5]),
        annotation(1, [60, 5, 5, 5]),
        annotation(1, [5, 5, 5, 5], iscrowd=1),
    ):
        assert by_kind(table_of([left_out], [(5, "dot")]))["images_without_objects"].count == 2


def test_categories(table: CocoTable):
    found = by_kind(table)
    unused = [str(example) for example in found["unused_categories"].examples]
    assert unused == ["category 2 is bar", "category 8 is dot"]
    shared = [str(example) for example in found["repeated_category_name"].examples]
    assert shared == ["category 5 is dot", "category 8 is dot"]


def test_a_category_of_crowds_alone_is_unused():
    crowd = annotation(1, [1, 1, 5, 5], iscrowd=1)
    assert by_kind(table_of([crowd], [(5, "dot")]))["unused_categories"].count == 1


def test_healthy_data_gives_no_note():
    boxes = [annotation(1, [1, 1, 5, 5]), {**annotation(2, [1, 1, 5, 5]), "image_id": 0}]
    assert check_health(table_of(boxes, [(5, "dot")])) == []


def test_no_content():
    assert check_health(check_content(None)) == []


def test_hotcoco_sorts_out_the_same():
    rng = np.random.default_rng(0)
    boxes = np.where(rng.random((500, 4)) < 0.5, rng.integers(-9, 70, (500, 4)), 5).tolist()
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": int(rng.integers(5)), "bbox": box}
            for k, box in enumerate(boxes)
        ],
        "categories": [{"id": k, "name": str(k)} for k in range(9)],
    }
    coco = hotcoco.COCO()
    coco.dataset = content
    coco.createIndex()
    counts = {entry["code"]: len(entry["affected_ids"]) for entry in coco.healthcheck()["warnings"]}
    found = by_kind(check_content(content))
    beyond = found["boxes_outside_image"].count + found["boxes_beyond_border"].count
    assert found["boxes_without_area"].count == counts["degenerate_bbox"] > 50
    assert beyond == counts["bbox_out_of_bounds"] > 50
    assert found["unused_categories"].count == counts["zero_instance_category"] == 4
