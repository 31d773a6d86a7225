"""Metrics of both backends, against pycocotools used as in its documentation."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from clq.evaluation.coco_evaluation import CocoBoxEvaluator, evaluate_boxes, format_results
from clq.evaluation.results import METRIC_NAMES

CATEGORY_IDS = (3, 7, 11, 40)  # no ground-truth box has the last one


def random_dataset(seed: int, n_images: int = 12) -> tuple[dict, list[dict]]:
    """Make ground truth and detections with crowds, empty images, tied scores and all sizes."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image_id in range(100, 100 + 7 * n_images, 7):
        n_boxes = 0 if image_id % 4 == 3 else int(rng.integers(1, 15))
        for _ in range(n_boxes):
            wh = np.exp(rng.uniform(np.log(6), np.log(250), 2))
            box = np.concatenate([rng.uniform(0, 400, 2), wh])
            owner = {"image_id": image_id, "category_id": int(rng.choice(CATEGORY_IDS[:-1]))}
            annotations.append(
                {
                    **owner,
                    "id": len(annotations) + 1,
                    "bbox": box.tolist(),
                    "area": float(wh.prod() * rng.uniform(0.5, 1)),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            for _ in range(rng.integers(0, 3)):
                near = box + rng.normal(0, 0.1, 4) * np.tile(wh, 2)
                score = round(float(rng.random()), 1)
                detections.append({**owner, "bbox": near.tolist(), "score": score})
        for _ in range(rng.integers(0, 30)):
            box = np.concatenate([rng.uniform(0, 400, 2), rng.uniform(5, 150, 2)])
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": int(rng.choice(CATEGORY_IDS)),
                    "bbox": box.tolist(),
                    "score": float(rng.random()),
                }
            )
    ground_truth = {
        "info": {},
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 640, "height": 640}
            for i in range(100, 100 + 7 * n_images, 7)
        ],
        "categories": [{"id": c, "name": f"name {c}"} for c in reversed(CATEGORY_IDS)],
        "annotations": annotations,
    }
    return ground_truth, detections


def reference(ground_truth: dict, detections: list[dict], img_ids=None) -> dict[str, float]:
    """pycocotools through `loadRes`; class AP by one evaluation per category."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt = COCO()
        coco_gt.dataset = copy.deepcopy(ground_truth)
        coco_gt.createIndex()
        coco_dt = coco_gt.loadRes(copy.deepcopy(detections))

        def stats(category_ids):
            coco_eval = COCOeval(coco_gt, coco_dt, "bbox")
            coco_eval.params.catIds = category_ids
            coco_eval.params.imgIds = img_ids or coco_eval.params.imgIds
            coco_eval.evaluate()
            coco_eval.accumulate()
            coco_eval.summarize()
            return [100 * value if value >= 0 else math.nan for value in coco_eval.stats]

        results = dict(zip(METRIC_NAMES, stats(list(CATEGORY_IDS)), strict=True))
        results.update({f"AP-name {c}": stats([c])[0] for c in CATEGORY_IDS})
    return results


def assert_same(actual, expected):
    """Assert bitwise equality, in the same order; NaN equals NaN."""
    assert list(actual) == list(expected)
    assert all(type(value) is float for value in actual.values())
    np.testing.assert_array_equal(list(actual.values()), list(expected.values()))


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("seed", range(3))
def test_all_numbers_equal_pycocotools(backend, seed):
    ground_truth, detections = random_dataset(seed)
    expected = reference(ground_truth, detections)
    assert math.isnan(expected["AP-name 40"]) and expected["AP"] > 1
    assert_same(evaluate_boxes(ground_truth, detections, backend=backend), expected)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_more_than_100_detections_in_an_image(backend):
    ground_truth, detections = random_dataset(3, n_images=2)
    crowded = [
        {**d, "image_id": 100, "score": d["score"] / k} for d in detections for k in (1, 2, 3)
    ]
    crowded = [{**d, "category_id": 3} for d in crowded]
    assert len(crowded) > 100
    expected = reference(ground_truth, crowded)
    assert_same(evaluate_boxes(ground_truth, crowded, backend=backend), expected)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_some_images_only(backend):
    ground_truth, detections = random_dataset(4)
    expected = reference(ground_truth, detections, img_ids=[100, 121])
    assert expected != reference(ground_truth, detections)
    actual = evaluate_boxes(ground_truth, detections, backend=backend, img_ids=[100, 121])
    assert_same(actual, expected)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_incomplete_json(backend):
    """Missing info, area and iscrowd, and ids from 0, change nothing."""
    ground_truth, detections = random_dataset(5)
    for annotation in ground_truth["annotations"]:
        annotation.update(area=annotation["bbox"][2] * annotation["bbox"][3], iscrowd=0)
    expected = reference(ground_truth, detections)

    bare = copy.deepcopy(ground_truth)
    del bare["info"]
    for i, annotation in enumerate(bare["annotations"]):
        annotation["id"] = i
        del annotation["area"], annotation["iscrowd"]
    before = copy.deepcopy(bare)
    assert_same(evaluate_boxes(bare, detections, backend=backend), expected)
    assert bare == before


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_additional_fields_of_the_json_do_not_matter(backend):
    """hotcoco raises if they have other types than COCO's."""
    ground_truth, detections = random_dataset(5)
    expected = reference(ground_truth, detections)
    for image in ground_truth["images"]:
        image.update(license="CC-BY", date_captured=2026)
    for annotation in ground_truth["annotations"]:
        annotation.update(segmentation=None, keypoints="none", attributes=[1])
    for category in ground_truth["categories"]:
        category.update(supercategory=7)
    assert_same(evaluate_boxes(ground_truth, detections, backend=backend), expected)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_additional_fields_of_detections_do_not_matter(backend):
    """pycocotools' `loadRes` replaces them too."""
    ground_truth, detections = random_dataset(5)
    expected = evaluate_boxes(ground_truth, detections, backend=backend)
    more = [{**d, "id": 0, "area": 1, "iscrowd": 1, "attributes": "none"} for d in detections]
    assert_same(evaluate_boxes(ground_truth, more, backend=backend), expected)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_arguments_are_not_changed(backend):
    ground_truth, detections = random_dataset(5)
    before = copy.deepcopy((ground_truth, detections))
    expected = evaluate_boxes(ground_truth, detections, backend=backend)
    assert (ground_truth, detections) == before
    assert_same(evaluate_boxes(ground_truth, iter(detections), backend=backend), expected)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_image_ids_may_exceed_the_precision_of_a_float(backend):
    ground_truth, detections = random_dataset(5)
    expected = evaluate_boxes(ground_truth, detections, backend=backend)
    for entry in (*ground_truth["annotations"], *detections):
        entry["image_id"] = 2**53 + entry["image_id"] // 7
    for image in ground_truth["images"]:
        image["id"] = 2**53 + image["id"] // 7
    assert len({float(image["id"]) for image in ground_truth["images"]}) < 12
    assert_same(evaluate_boxes(ground_truth, detections, backend=backend), expected)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_nothing_detected_is_zero(backend):
    ground_truth, _ = random_dataset(6)
    results = evaluate_boxes(ground_truth, [], backend=backend)
    assert math.isnan(results.pop("AP-name 40"))
    assert set(results.values()) == {0.0}


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_no_ground_truth_is_undefined(backend):
    ground_truth, detections = random_dataset(7)
    results = evaluate_boxes({**ground_truth, "annotations": []}, detections, backend=backend)
    assert all(math.isnan(value) for value in results.values())


def test_results_do_not_print(capfd):
    evaluate_boxes(*random_dataset(8))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_table_shows_every_class():
    results = evaluate_boxes(*random_dataset(9))
    text = format_results(results)
    assert f"{results['AP75']:.3f}" in text and "AR100" in text
    for category in CATEGORY_IDS[:-1]:
        name = f"name {category}"
        assert any(
            name in line and f"{results['AP-' + name]:.3f}" in line for line in text.splitlines()
        )


# ------------------------------------------------------------------------------- CocoBoxEvaluator


@pytest.fixture
def registered(tmp_path):
    """Register a data set; yields its name, json content, and detections on it."""
    ground_truth, detections = random_dataset(10)
    json_file = tmp_path / "gt.json"
    json_file.write_text(json.dumps(ground_truth))
    name = f"coco_evaluation_{tmp_path.name}"
    register_coco_instances(name, {}, str(json_file), str(tmp_path))
    DatasetCatalog.get(name)
    yield name, ground_truth, detections
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def model_outputs(ground_truth: dict, detections: list[dict]) -> list[tuple[dict, dict]]:
    """Make (input, output) of each image; classes are contiguous, boxes float32 corners."""
    pairs = []
    for image in ground_truth["images"]:
        own = [d for d in detections if d["image_id"] == image["id"]]
        boxes = torch.tensor([d["bbox"] for d in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        instances = Instances((image["height"], image["width"]))
        instances.pred_boxes = Boxes(boxes)
        instances.scores = torch.tensor([d["score"] for d in own], dtype=torch.float32)
        classes = [CATEGORY_IDS.index(d["category_id"]) for d in own]
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        pairs.append(({"image_id": image["id"]}, {"instances": instances}))
    return pairs


def as_float32(detections: list[dict]) -> list[dict]:
    """Round detections as the model's float32 corners do, and no further."""
    converted = []
    for detection in detections:
        x, y, w, h = np.float32(detection["bbox"])
        box = [float(value) for value in (x, y, (x + w) - x, (y + h) - y)]
        converted.append({**detection, "bbox": box, "score": float(np.float32(detection["score"]))})
    return converted


def run(evaluator: CocoBoxEvaluator, pairs) -> dict:
    evaluator.reset()
    for model_input, output in pairs:
        evaluator.process([model_input], [output])
    return evaluator.evaluate()


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_evaluator(registered, backend, tmp_path):
    name, ground_truth, detections = registered
    expected_detections = as_float32(detections)
    expected = reference(ground_truth, expected_detections)
    evaluator = CocoBoxEvaluator(
        dataset_name=name, output_dir=str(tmp_path / "out"), backend=backend
    )
    pairs = model_outputs(ground_truth, detections)
    results = run(evaluator, pairs)
    assert list(results) == ["bbox"]
    assert_same(results["bbox"], expected)
    assert json.loads((tmp_path / "out/coco_instances_results.json").read_text()) == [
        {key: d[key] for key in ("image_id", "category_id", "bbox", "score")}
        for d in expected_detections
    ]
    assert_same(evaluator.evaluate()["bbox"], expected)  # a second call changes nothing


def test_detections_are_written_whole_and_through_no_link(registered, tmp_path):
    name, ground_truth, detections = registered
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "coco_instances_results.json"
    path.symlink_to(tmp_path / "precious")
    run(CocoBoxEvaluator(dataset_name=name, output_dir=str(tmp_path / "out")), [])
    assert path.read_text() == "[]" and not path.is_symlink()
    assert (tmp_path / "precious").read_text() == "mine"
    assert list(path.parent.iterdir()) == [path]


def test_unreadable_images_do_not_count(registered):
    """They are not images without detections."""
    name, ground_truth, detections = registered
    pairs = model_outputs(ground_truth, detections)[3:]
    read = [model_input["image_id"] for model_input, _ in pairs]
    expected = reference(ground_truth, as_float32(detections), img_ids=read)
    assert expected != reference(
        ground_truth, [d for d in as_float32(detections) if d["image_id"] in read]
    )
    assert_same(run(CocoBoxEvaluator(dataset_name=name), pairs)["bbox"], expected)


def test_evaluator_without_detections(registered):
    name, ground_truth, _ = registered
    results = run(CocoBoxEvaluator(dataset_name=name), model_outputs(ground_truth, []))["bbox"]
    assert [results[metric] for metric in METRIC_NAMES] == [0.0] * 12


def test_evaluator_without_annotations(registered, tmp_path):
    name, ground_truth, detections = registered
    del ground_truth["annotations"]
    (tmp_path / "gt.json").write_text(json.dumps(ground_truth))
    assert run(CocoBoxEvaluator(dataset_name=name), model_outputs(ground_truth, detections)) == {}


def test_evaluator_gathers_processes(registered, monkeypatch):
    """Two processes with half of the images each; only rank 0 returns results."""
    name, ground_truth, detections = registered
    pairs = model_outputs(ground_truth, detections)
    other = CocoBoxEvaluator(dataset_name=name)
    other.reset()
    for model_input, output in pairs[1::2]:
        other.process([model_input], [output])

    monkeypatch.setattr(comm, "gather", lambda own: [own, other._detections])
    results = run(CocoBoxEvaluator(dataset_name=name), pairs[::2])
    assert_same(results["bbox"], reference(ground_truth, as_float32(detections)))

    monkeypatch.setattr(comm, "gather", lambda own: [])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert run(CocoBoxEvaluator(dataset_name=name), pairs[::2]) == {}


def test_evaluator_without_readable_images(registered):
    assert run(CocoBoxEvaluator(dataset_name=registered[0]), []) == {}


def test_a_data_set_without_a_json_is_scored_on_its_records(registered, tmp_path):
    """Its category ids are the class indices then."""
    name, ground_truth, detections = registered
    records = DatasetCatalog.get(name)
    copy_name = f"{name}_copy"
    DatasetCatalog.register(copy_name, lambda: records)
    MetadataCatalog.get(copy_name).thing_classes = MetadataCatalog.get(name).thing_classes
    evaluator = CocoBoxEvaluator(dataset_name=copy_name, output_dir=str(tmp_path / "out"))
    results = run(evaluator, model_outputs(ground_truth, detections))["bbox"]
    # The conversion rounds boxes, and computes the areas from them.
    assert results["AP"] == pytest.approx(run_on_json(registered)["AP"], abs=1)
    assert results["AP"] > 1 and math.isnan(results["AP-name 40"])
    found = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert {detection["category_id"] for detection in found} == {0, 1, 2, 3}


def run_on_json(registered) -> dict:
    name, ground_truth, detections = registered
    pairs = model_outputs(ground_truth, detections)
    return run(CocoBoxEvaluator(dataset_name=name), pairs)["bbox"]


def test_evaluator_rejects_a_class_that_the_data_lack(registered):
    name, ground_truth, detections = registered
    pairs = model_outputs(ground_truth, detections)
    pairs[0][1]["instances"].pred_classes[0] = 4
    with pytest.raises(ValueError, match="predicted class 4"):
        run(CocoBoxEvaluator(dataset_name=name), pairs)


def test_unknown_backend(registered):
    with pytest.raises(ValueError, match="'coco'"):
        CocoBoxEvaluator(dataset_name=registered[0], backend="coco")
