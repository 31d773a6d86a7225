"""Limits that bite are told, and TEST.DETECTIONS_PER_IMAGE reaches the scoring."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances

from clq.config import get_clq_cfg
from clq.data import CocoFiles, register_coco_json
from clq.data_report.anchor_coverage import DetectorScale
from clq.data_report.report import report_data
from clq.engine import CLQTrainer
from clq.engine.run_config.run_checks import check_batch_size, weigh_limits
from clq.evaluation import evaluate_boxes
from reference.tiny import Pair, write_pair

BOXES = [[20.0 * (i % 16), 20.0 * (i // 16), 16.0, 16.0] for i in range(250)]


def dense(image_id: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth of 250 objects in one image, and its perfect detections."""
    place = {"image_id": image_id, "category_id": 1}
    objects = [
        {**place, "id": i, "bbox": box, "area": 256, "iscrowd": 0}
        for i, box in enumerate(BOXES, start=1)
    ]
    truth = {
        "images": [{"id": image_id, "file_name": "0.png", "width": 320, "height": 320}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": objects,
    }
    return truth, [{**place, "bbox": box, "score": 1 - i / 1000} for i, box in enumerate(BOXES)]


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize(
    ("limit", "recall"), [(50, 0.4), (100, 0.4), (200, 0.8), (250, 1.0), (300, 1.0)]
)
def test_the_limit_is_that_of_the_scoring(backend: str, limit: int, recall: float):
    results = evaluate_boxes(*dense(), backend=backend, max_detections=limit)
    # Precision is 1 at the recalls 0, 0.01 .. that are reached.
    expected = 100 * (100 * recall // 1 + 1) / 101
    for name in ("AP", "AP50", "AP75", "APs", "AP-cell"):
        assert results[name] == pytest.approx(expected), name
    assert results["ARs"] == pytest.approx(100 * recall)
    assert [results[f"AR{n}"] for n in (1, 10, 100)] == pytest.approx([0.4, 4, 40])


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_the_key_reaches_the_evaluator_and_the_log(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pair = write_pair(tmp_path, "dense", num_images=1, seed=0, sizes=[(320, 320)])
    pair.json_file.write_text(json.dumps(dense()[0]))
    register_coco_json("dense", *pair)
    cfg = get_clq_cfg()
    cfg.OUTPUT_DIR, cfg.TEST.EVALUATOR, cfg.TEST.DETECTIONS_PER_IMAGE = str(tmp_path), backend, 300
    corners = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in BOXES])
    found = Instances((320, 320), pred_boxes=Boxes(corners), scores=torch.linspace(1, 0.5, 250))
    found.pred_classes = torch.zeros(250, dtype=torch.int64)
    evaluator = CLQTrainer.build_evaluator(cfg, "dense")
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    with caplog.at_level(logging.INFO):
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    assert "over the best 300 detections of an image and class" in caplog.text


def test_the_data_check_tells_of_images_beyond_the_limit(tmp_path: Path):
    pair: Pair = write_pair(tmp_path, "dense", num_images=1, seed=0, sizes=[(320, 320)])
    pair.json_file.write_text(json.dumps(dense()[0]))
    cfg = get_clq_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_clq_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    scale = DetectorScale.from_config(cfg)
    for limit, is_told in ((100, True), (249, True), (250, False)):
        cfg.TEST.DETECTIONS_PER_IMAGE = limit
        warnings = report_data(CocoFiles(*pair), cfg, scale).warnings
        told = [str(w.examples[0]) for w in warnings if w.kind == "crowded_images"]
        assert bool(told) == is_told and all("has 250 objects" in text for text in told)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("TEST.DETECTIONS_PER_IMAGE", 2000, "TOPK_CANDIDATES_TEST 1000 lets each level find"),
        ("MODEL.CLQ.SCORE_THRESH_TEST", 0.5, "leaves out detections that AP would count"),
        ("SOLVER.WARMUP_ITERS", 50000, "the learning rate never reaches SOLVER.BASE_LR"),
    ],
)
def test_a_limit_that_is_hardly_meant_is_told(key: str, value: Any, sentence: str):
    cfg = get_clq_cfg()
    cfg.DATASETS.TEST = ("val",)
    assert weigh_limits(cfg, eval_only=False) == []
    cfg.merge_from_list([key, value])
    (note,) = weigh_limits(cfg, eval_only=False)
    assert key in note and str(value) in note and sentence in note


def test_micro_batches_divide_what_the_reference_leaves_a_process():
    """Detectron2 multiplies the batch by the processes over REFERENCE_WORLD_SIZE."""
    cfg = get_clq_cfg()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE = 16, 8
    cfg.SOLVER.ACCUMULATION.MICRO_BATCHES = 2
    check_batch_size(cfg, 3)
    cfg.SOLVER.ACCUMULATION.MICRO_BATCHES = 4  # divides 16 // 1, but each process has 2 images
    with pytest.raises(ValueError, match="each of 8 processes has 2 images"):
        check_batch_size(cfg, 1)
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 5
    with pytest.raises(ValueError, match="IMS_PER_BATCH is 16; it must be positive and a multiple"):
        check_batch_size(cfg, 2)
