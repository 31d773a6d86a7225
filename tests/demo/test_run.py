"""The demo on a small stand-in for its photographs: what it writes and what it prints."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clq.data import register_coco_json
from clq.demo import run as demo
from clq.engine import RunOptions, build_config
from clq.evaluation import METRIC_NAMES
from reference.tiny import ROOT, TinyData, command_line, parse, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")
ITERATIONS = 40
TEST_SETS = {"test": "stand_in_test", "test_other_sites": "stand_in_other"}


@pytest.fixture
def demo_args(tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    """Arguments of a demo on three small data sets."""
    monkeypatch.setattr(demo, "_TEST_SPLITS", TEST_SETS)
    register_coco_json("stand_in_train", *tiny_data.train)
    register_coco_json("stand_in_test", *tiny_data.val)
    register_coco_json("stand_in_other", *write_pair(tmp_path, "other", num_images=1, seed=4))
    keys = {
        "DATASETS.TRAIN": "('stand_in_train',)",
        "DATASETS.TEST": "('stand_in_test', 'stand_in_other')",
        "MODEL.CLQ.NUM_CLASSES": 3,
        "SOLVER.MAX_ITER": ITERATIONS,
        "TEST.EVAL_PERIOD": 20,
        "TEST.REPORT": True,
        "SEED": 11,
    }
    return parse(command_line(None, tmp_path / "demo", keys=keys))


def test_demo_writes_numbers_and_pictures_and_prints_them(
    demo_args: RunOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "demo"
    output.mkdir()
    (output / "metrics.json").write_text('{"iteration": 99999, "total_loss": 1.0}\n')  # a past run
    demo.run_demo(demo_args)
    printed = capsys.readouterr().out
    results = json.loads((output / "results.json").read_text())

    for split in TEST_SETS:
        assert set(results[split]) == {*METRIC_NAMES, "per_class"}
        assert 0 <= results[split]["AP"] <= 100
    assert results["test"]["AP50"] > 0
    assert (results["seed"], results["iterations"]) == (11, ITERATIONS)
    assert results["torch"] == torch.__version__ and results["cpu"].endswith("1 threads")
    assert results["device"] == "cpu"
    assert 0 < results["seconds"] and 0 < results["cpu_seconds"] < 10 * results["seconds"] + 10

    for name in ("training.png", "detections.png"):
        picture = np.asarray(Image.open(output / name))
        assert min(picture.shape[:2]) > 300 and picture.std() > 5
    history = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    evaluated = [entry for entry in history if "stand_in_test/bbox/AP" in entry]
    assert len(evaluated) == ITERATIONS / 20
    assert max(entry["iteration"] for entry in history) <= ITERATIONS  # the past run is gone
    # The final weights' numbers, not the best: those of the last evaluation in the history.
    assert evaluated[-1]["stand_in_test/bbox/AP"] == pytest.approx(results["test"]["AP"])

    lines = printed.rstrip().splitlines()
    assert lines[0] == f"Training CLQ for {ITERATIONS} iterations on cpu."
    assert any("eta:" in line and "iter: 19" in line for line in lines)
    written = ("results.json", "training.png", "detections.png", "report/index.html")
    assert lines[-4:] == [str(output / name) for name in written]
    assert "stand_in_other/index.html" in (output / "report/index.html").read_text()
    for split, row in zip(TEST_SETS, lines[-6:-4], strict=True):
        numbers = row.split()
        assert numbers[0] == split
        assert float(numbers[1]) == round(results[split]["AP"], 1)
        assert float(numbers[2]) == round(results[split]["AP50"], 1)
    assert "Full config saved" not in printed and "Full config" in (output / "log.txt").read_text()


def test_samples_pair_ground_truth_with_detections(
    tiny_data: TinyData, demo_args: RunOptions, tmp_path: Path
):
    truth = tiny_data.val.content["annotations"]
    first = [a for a in truth if a["image_id"] == truth[0]["image_id"]]
    wrong = {"bbox": [0, 0, 2, 2], "score": 0.25}
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], **part}
        for a, part in ((first[0], wrong), (first[1], {"bbox": first[1]["bbox"], "score": 0.755}))
    ]
    folder = tmp_path / "demo" / "inference" / "stand_in_test"
    folder.mkdir(parents=True)
    (folder / "coco_instances_results.json").write_text(json.dumps(found))
    samples, threshold = demo.read_samples(build_config(demo_args), "stand_in_test")
    assert [len(sample.gt_boxes) for sample in samples] == [
        3,
        3,
        0,
    ]  # those with most objects first
    sample, other, empty = samples
    assert sample.image.shape == (64, 96, 3)
    assert sample.gt_boxes.tolist() == [a["bbox"] for a in first]
    assert sample.pred_boxes.tolist() == [found[1]["bbox"], found[0]["bbox"]]
    assert sample.scores.tolist() == [0.755, 0.25]
    assert sample.is_match.tolist() == [True, False]
    assert threshold == 0.75
    np.testing.assert_equal(sample.gt_scores, [np.nan, 0.755, np.nan])
    assert other.pred_boxes.shape == empty.gt_boxes.shape == (0, 4)
    assert np.isnan(other.gt_scores).all() and not len(empty.scores)
    (folder / "coco_instances_results.json").write_text("[]")
    assert demo.read_samples(build_config(demo_args), "stand_in_test")[1] == 1


def test_demo_config_has_the_test_sets_that_the_demo_reports():
    cfg = build_config(parse(["--config-file", str(ROOT / "configs/Demo/clq_trees.yaml")]))
    assert tuple(demo._TEST_SPLITS.values()) == cfg.DATASETS.TEST
    assert cfg.SOLVER.MAX_ITER % cfg.TEST.EVAL_PERIOD == 0
