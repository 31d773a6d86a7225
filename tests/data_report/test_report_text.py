"""The data report as text and as json."""

import json
from pathlib import Path

import pytest

from clq.data import CocoFiles
from clq.data.coco.findings import Example, Finding
from clq.data_report import DataReport
from clq.data_report.report_text import as_json, as_text

WARNING = Finding(
    "small_objects", "small objects", False, 2, (Example("annotation 3", "is small"),), total=9
)
ERROR = Finding(
    "missing_image",
    "images that are not there",
    True,
    7,
    tuple(Example(f"image {k}.png", "does not exist") for k in range(5)),
)


@pytest.fixture
def report() -> DataReport:
    return DataReport(
        CocoFiles(Path("train.json"), Path("images")),
        class_names=["12", "b"],
        class_counts=[3, 400],
        image_paths=[f"images/{k}.png" for k in range(20)],
        num_read=13,
        num_matched=12,
        findings=[ERROR, WARNING],
    )


def test_text(report: DataReport):
    assert as_text(report).splitlines() == [
        "train.json with images",
        "images: 20, objects: 403, classes: 2 (images read: 13, matched by ATSS: 12)",
        "ERROR [missing_image] images that are not there: 7",
        "      - image 0.png does not exist",
        "      - image 1.png does not exist",
        "      - image 2.png does not exist",
        "      - image 3.png does not exist",
        "      - image 4.png does not exist",
        "      - and 2 more",
        "WARNING [small_objects] small objects: 2 of 9 (22.2%), such as annotation 3 is small",
        "",
        "class      objects",
        "-------  ---------",
        "b              400",
        "12               3",
    ]


def test_text_without_findings_and_classes(report: DataReport):
    report = report._replace(findings=[], class_names=[], class_counts=[])
    assert as_text(report).splitlines()[1:] == [
        "images: 20, objects: 0, classes: 0 (images read: 13, matched by ATSS: 12)",
        "Nothing to report.",
    ]


def test_of_many_classes_the_most_frequent_are_shown(report: DataReport):
    names = [f"class {k}" for k in range(30)]
    lines = as_text(report._replace(class_names=names, class_counts=list(range(30)))).splitlines()
    table = lines[lines.index("") + 1 :]
    assert table[2].split() == ["class", "29", "29"] and table[-2].split() == ["class", "10", "10"]
    assert table[-1] == "and 10 more classes of 9 to 0 objects"


def test_names_that_no_terminal_can_show(report: DataReport):
    report = report._replace(class_names=["a\nb", "\x1b[31m"])
    text = as_text(report._replace(files=CocoFiles(Path("a\n.json"), Path("\ud800"))))
    assert text.splitlines()[0] == r"'a\n.json' with '\ud800'"
    assert r"'a\nb'" in text and "\x1b" not in text


def test_json(report: DataReport):
    content = json.loads(json.dumps(as_json([report, report]), allow_nan=False))
    assert content["faults"] == 14
    first, second = content["data"]
    assert first == second
    assert first == {
        "json": "train.json",
        "images": "images",
        "num_images": 20,
        "num_objects": 403,
        "num_read": 13,
        "num_matched": 12,
        "classes": [{"name": "12", "objects": 3}, {"name": "b", "objects": 400}],
        "findings": [
            {
                "kind": "missing_image",
                "is_fault": True,
                "count": 7,
                "total": None,
                "sentence": "images that are not there: 7",
                "examples": [f"image {k}.png does not exist" for k in range(5)],
            },
            {
                "kind": "small_objects",
                "is_fault": False,
                "count": 2,
                "total": 9,
                "sentence": "small objects: 2 of 9 (22.2%)",
                "examples": ["annotation 3 is small"],
            },
        ],
    }
