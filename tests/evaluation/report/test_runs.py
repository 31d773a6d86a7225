"""Loading a run: its test sets with annotations, without the images it skipped."""

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from PIL import Image

from clq.config import get_clq_cfg
from clq.data import register_coco_json
from clq.evaluation.coco_evaluation import detections_file
from clq.evaluation.report.run_report import report_run
from clq.evaluation.report.runs import load_runs
from reference.tiny import CLASS_NAMES, Pair, write_pair


def config(output: Path, *pairs: Pair) -> CfgNode:
    cfg = get_clq_cfg()
    cfg.OUTPUT_DIR, cfg.MODEL.CLQ.NUM_CLASSES = str(output), len(CLASS_NAMES)
    cfg.DATASETS.TEST = tuple(pair.json_file.stem for pair in pairs)
    for pair in pairs:
        register_coco_json(pair.json_file.stem, *pair, needs_labels=False)
        path = detections_file(output, pair.json_file.stem)
        path.parent.mkdir(parents=True)
        box = {"image_id": 10, "category_id": 3, "bbox": [1, 2, 30, 10], "score": 0.5}
        path.write_text(json.dumps([box]))
    return cfg


def test_each_test_set_has_a_page_that_links_to_the_others(tmp_path: Path):
    pairs = [write_pair(tmp_path, name, num_images=2, seed=1) for name in ("one", "t w?o")]
    pages = report_run(config(tmp_path, *pairs), "weights", tmp_path / "report")
    assert pages == [tmp_path / "report/index.html", tmp_path / "report/t w?o/index.html"]
    assert 'href="t%20w%3Fo/index.html"' in pages[0].read_text()
    assert 'href="../index.html"' in pages[1].read_text()


def test_data_without_annotations_has_no_report(tmp_path: Path):
    pair = write_pair(tmp_path, "bare", num_images=1, seed=1)
    content = pair.content
    del content["annotations"]
    pair.json_file.write_text(json.dumps(content))
    labelled = write_pair(tmp_path, "labelled", num_images=1, seed=1)
    runs = load_runs(config(tmp_path / "both", pair, labelled), "weights")
    assert [run.dataset for run in runs] == ["labelled"]
    assert report_run(config(tmp_path / "bare run", pair), "weights", tmp_path / "report") == []
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("skips", [False, True])
def test_images_that_were_skipped_do_not_count(tmp_path: Path, skips: bool):
    pair = write_pair(tmp_path, "val", num_images=4, seed=1)
    cfg = config(tmp_path, pair)
    cfg.DATALOADER.SKIP_UNREADABLE = skips
    (pair.images / "1.png").write_bytes(b"no image")
    Image.new("RGB", (5, 7)).save(pair.images / "2.png")  # of another size than its annotations
    (run,) = load_runs(cfg, "weights")
    assert [image["id"] for image in run.truth["images"]] == (
        [10, 31] if skips else [10, 17, 24, 31]
    )
    counted = {annotation["image_id"] for annotation in run.truth["annotations"]}
    assert counted == ({10} if skips else {10, 17, 24})


def test_data_of_which_every_image_was_skipped_has_no_report(tmp_path: Path):
    pair = write_pair(tmp_path, "val", num_images=2, seed=1)
    cfg = config(tmp_path, pair)
    cfg.DATALOADER.SKIP_UNREADABLE = True
    detections_file(tmp_path, "val").write_text("[]")
    for image in pair.images.iterdir():
        image.write_bytes(b"no image")
    assert report_run(cfg, "weights", tmp_path / "report") == []


def test_detections_of_other_data_are_refused(tmp_path: Path):
    pair = write_pair(tmp_path, "val", num_images=2, seed=1)
    cfg = config(tmp_path, pair)
    path = detections_file(tmp_path, "val")
    path.write_text(path.read_text().replace('"image_id": 10', '"image_id": 11'))
    with pytest.raises(ValueError, match="detections of image_id 11, which its data set does not"):
        load_runs(cfg, "weights")


def test_damaged_detections_are_named(tmp_path: Path):
    pair = write_pair(tmp_path, "val", num_images=2, seed=1)
    cfg = config(tmp_path, pair)
    path = detections_file(tmp_path, "val")
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ValueError, match=f"{path.name} is damaged .* delete it"):
        load_runs(cfg, "weights")
