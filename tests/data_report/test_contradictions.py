"""Entries that are valid one by one and contradictory together."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clq.config import get_clq_cfg
from clq.data import CocoFiles
from clq.data.coco.findings import Finding
from clq.data_report import report_data
from clq.data_report.anchor_coverage import DetectorScale
from clq.data_report.report import ReportScope
from clq.evaluation import evaluate_boxes

Content = dict[str, Any]
SIZE = (200, 100)  # width and height


def content(boxes: list[list[float]]) -> Content:
    """One image for each box, and a category for each image."""
    numbers = range(1, len(boxes) + 1)
    width, height = SIZE
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": width, "height": height} for n in numbers
        ],
        "categories": [{"id": n, "name": f"class {n}"} for n in numbers],
        "annotations": [
            {"id": n, "image_id": n, "category_id": n, "bbox": box}
            for n, box in zip(numbers, boxes)
        ],
    }


GOOD = [[20, 10, 40, 30], [100, 20, 60, 60], [20.5, 30, 50, 40]]


def findings_on(
    data: Content, folder: Path, *, decodes: bool = True, train_paths: tuple[str, ...] = ()
) -> dict[str, Finding]:
    (folder / "a.json").write_text(json.dumps(data))
    width, height = SIZE
    for image in data["images"]:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            noise = np.random.default_rng(image["id"]).integers(0, 256, (height, width, 3))
            Image.fromarray(noise.astype(np.uint8)).save(path)
    cfg = get_clq_cfg()
    cfg.MODEL.DEVICE = "cpu"
    report = report_data(
        CocoFiles(folder / "a.json", folder),
        cfg,
        DetectorScale.from_config(cfg),
        scope=ReportScope(num_matched=0, decodes=decodes),
        train_paths=train_paths,
    )
    return {finding.kind: finding for finding in report.findings}


def test_good_entries_contradict_nothing(tmp_path: Path):
    assert set(findings_on(content(GOOD), tmp_path)) <= {"small_objects", "beyond_reg_max"}


# ------------------------------------------------------------------------- one image, two entries


@pytest.mark.parametrize("name", ("1.png", "./1.png", "sub/../1.png"))
@pytest.mark.parametrize("decodes", (True, False))
def test_one_file_under_two_ids(name: str, decodes: bool, tmp_path: Path):
    data = content(GOOD)
    (tmp_path / "sub").mkdir()
    data["images"][2]["file_name"] = name
    found = findings_on(data, tmp_path, decodes=decodes)["repeated_image"]
    assert found.count == 1 and not found.is_error
    assert str(found.examples[0]) == f"image {name} is the same image as 1.png"


@pytest.mark.parametrize("copy", (shutil.copyfile, lambda a, b: b.symlink_to(a)))
def test_a_copy_under_another_name(copy: Callable, tmp_path: Path):
    findings_on(content(GOOD[:1]), tmp_path)
    copy(tmp_path / "1.png", tmp_path / "2.png")
    found = findings_on(content(GOOD), tmp_path)
    assert found["repeated_image"].count == 1
    assert "repeated_image" not in findings_on(content(GOOD), tmp_path, decodes=False)


def test_files_of_one_size_and_other_content_are_two_images(tmp_path: Path):
    data = content(GOOD[:2])
    for image, color in zip(data["images"], ("red", "lime")):
        image["file_name"] = f"{image['id']}.bmp"
        Image.new("RGB", SIZE, color).save(tmp_path / image["file_name"])
    assert len({file.stat().st_size for file in tmp_path.glob("*.bmp")}) == 1
    assert "repeated_image" not in findings_on(data, tmp_path)


@pytest.mark.parametrize("is_copy", (False, True))
def test_evaluation_images_in_training(is_copy: bool, tmp_path: Path):
    findings_on(content(GOOD), tmp_path)
    trained = tmp_path / "2.png"
    if is_copy:
        trained = tmp_path / "other" / "name.png"
        trained.parent.mkdir()
        shutil.copyfile(tmp_path / "2.png", trained)
    paths = (str(trained), str(tmp_path / "missing.png"))
    found = findings_on(content(GOOD), tmp_path, train_paths=paths)["training_images"]
    assert found.count == 1 and found.total == 3
    assert str(found.examples[0]) == "image 2.png is in the training data"
    quick = findings_on(content(GOOD), tmp_path, train_paths=paths, decodes=False)
    assert ("training_images" in quick) is not is_copy


# ---------------------------------------------------------------------------- boxes and categories


@pytest.mark.parametrize(
    "entry",
    (
        {"attributes": {"occluded": False, "rotation": 45.0}},
        {"rotation": -10},
        {"angle": 0.5},
        {"attributes": {"theta": 90}},
    ),
)
def test_a_rotation_that_is_ignored(entry: Content, tmp_path: Path):
    data = content(GOOD)
    data["annotations"][1] |= entry
    found = findings_on(data, tmp_path)["rotated_boxes"]
    assert found.count == 1 and "upright box" in found.consequence


@pytest.mark.parametrize(
    "entry",
    ({"attributes": {"rotation": 0.0}}, {"rotation": 360}, {"attributes": [], "angle": "x"}),
)
def test_no_rotation(entry: Content, tmp_path: Path):
    data = content(GOOD)
    data["annotations"][1] |= entry
    assert "rotated_boxes" not in findings_on(data, tmp_path)


def corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def centred(box: list[float]) -> list[float]:
    return [box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]]


def fractions(box: list[float]) -> list[float]:
    return [side / SIZE[i % 2] for i, side in enumerate(box)]


LARGE = [[20, 10, 140, 80], [100, 20, 90, 75], [5.5, 5, 190, 90]]


@pytest.mark.parametrize(
    "form, remedy",
    (
        (corners, "give x1 - x0 and y1 - y0 as width and height"),
        (centred, "give x - width / 2 and y - height / 2 as x and y"),
        (fractions, "multiply by its width and height"),
    ),
)
def test_boxes_of_another_form_are_told_what_makes_them_valid(
    form: Callable[[list[float]], list[float]], remedy: str, tmp_path: Path
):
    found = findings_on(content([form(box) for box in LARGE]), tmp_path)
    assert found["boxes_of_another_form"].consequence == remedy
    assert "boxes_of_another_form" not in findings_on(content(LARGE), tmp_path)


def scattered(count: int) -> list[list[float]]:
    """Small boxes anywhere in an image, at a fixed seed."""
    sides = np.array([16, 8])
    corners = np.random.default_rng(0).uniform(0, np.array(SIZE) - sides, (count, 2))
    return [[*corner, *map(float, sides)] for corner in corners.tolist()]


def test_few_boxes_beyond_the_border_tell_of_centres(tmp_path: Path):
    """Centres go beyond the right and lower borders alone; boxes drawn too large beyond all."""
    boxes = scattered(150)
    found = findings_on(content([centred(box) for box in boxes]), tmp_path, decodes=False)
    told = found["boxes_of_another_form"]
    assert "centre x, centre y" in told.what and 10 <= told.count <= 15
    too_large = [[x - 2, y - 2, width + 4, height + 4] for x, y, width, height in boxes]
    found = findings_on(content(too_large), tmp_path, decodes=False)
    assert found["boxes_beyond_border"].count >= 5 and "boxes_of_another_form" not in found


def test_fractions_among_pixels_are_told(tmp_path: Path):
    found = findings_on(content([*LARGE, fractions(LARGE[0])]), tmp_path)
    assert found["boxes_of_another_form"].count == 1
    assert found["boxes_of_another_form"].consequence == "multiply by its width and height"


def test_boxes_that_no_form_makes_valid_are_left_to_the_other_warnings(tmp_path: Path):
    found = findings_on(content([[150, 10, 100, 20], [-40, 20, 60, 60]]), tmp_path)
    assert "boxes_beyond_border" in found and "boxes_of_another_form" not in found


@pytest.mark.parametrize("category, kind", ((1, "repeated_objects"), (2, "boxes_of_two_classes")))
def test_a_box_that_is_listed_twice(category: int, kind: str, tmp_path: Path):
    data = content(GOOD)
    data["annotations"].append({**data["annotations"][0], "id": 9, "category_id": category})
    found = findings_on(data, tmp_path)
    assert found[kind].count == 1
    assert len({"repeated_objects", "boxes_of_two_classes"} & set(found)) == 1


def test_classes_of_one_name_each_have_their_ap():
    truth = content(GOOD)
    for category in truth["categories"][:2]:
        category["name"] = "bar"
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": GOOD[0], "score": 0.9},
        {"image_id": 3, "category_id": 3, "bbox": GOOD[2], "score": 0.9},
    ]
    found = evaluate_boxes(truth, detections)
    aps = {name: round(value) for name, value in found.items() if name.startswith("AP-")}
    assert aps == {"AP-bar (1)": 100, "AP-bar (2)": 0, "AP-class 3": 100}
