"""Candidates before and after suppression."""

from pathlib import Path

import pytest
import torch

from benchmarks.accuracy.candidates import best_candidates, suppressed
from clq.engine import CLQTrainer, setup
from reference.tiny import TinyData, command_line, parse


@pytest.mark.usefixtures("cpu_only")
def test_suppression_of_the_candidates_gives_the_detectors_own_detections(
    tiny_data: TinyData, tmp_path: Path
):
    cfg = setup(parse(command_line(tiny_data, tmp_path)))
    torch.manual_seed(0)
    model = CLQTrainer.build_model(cfg).eval()
    loader = CLQTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
    with torch.no_grad():
        own = [output["instances"].scores.numpy() for batch in loader for output in model(batch)]
    candidates = best_candidates(model, loader, tiny_data.val.content)
    left = suppressed(candidates, iou=cfg.MODEL.CLQ.NMS_THRESH_TEST, limit=100)
    assert len(candidates) > len(left) > 0
    for image, scores in zip(tiny_data.val.content["images"], own, strict=True):
        found = [d["score"] for d in left if d["image_id"] == image["id"]]
        assert found == pytest.approx(scores.tolist())
    assert {c["category_id"] for c in candidates} <= {3, 17, 90}


def test_suppression_by_hand():
    """IoU 2/3 with the best of the class, 1/3, and another class."""
    keys = {"image_id": 1, "category_id": 1}
    best = {**keys, "bbox": [0, 0, 10, 10], "score": 0.9}
    near = {**keys, "bbox": [2, 0, 10, 10], "score": 0.8}
    far = {**keys, "bbox": [5, 0, 10, 10], "score": 0.7}
    other = {**near, "category_id": 2, "score": 0.2}
    elsewhere = {**near, "image_id": 2}
    everything = [best, near, far, other, elsewhere]
    assert suppressed(everything, iou=0.6, limit=9) == [best, far, other, elsewhere]
    assert suppressed(everything, iou=0.7, limit=9) == everything
    assert suppressed(everything, iou=0.6, limit=1) == [best, elsewhere]
