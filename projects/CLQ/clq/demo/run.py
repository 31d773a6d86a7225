"""The demo: one training run, its numbers and its pictures."""

import contextlib
import io
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from ..checkpoint.output_dir import remove_checkpoints
from ..data.demo_trees import TREE_SPLITS
from ..engine.run_config.options import RunOptions
from ..engine.run_config.setup import build_config, setup
from ..engine.trainer import CLQTrainer
from ..evaluation import METRIC_NAMES, box_results_by_dataset, write_results
from ..evaluation.coco_evaluation import detections_file, run_coco_eval
from ..runtime.images import read_image
from ..utils.hardware import cpu_name, cpu_seconds
from .figures import MATCH_IOU, Sample, draw_samples, draw_training_curves

# The tree splits of the demo that are evaluated, by their name in results.json.
_TEST_SPLITS = {split: TREE_SPLITS[split].dataset for split in ("test", "test_other_sites")}


def run_demo(options: RunOptions) -> None:
    """Train on the tree crowns, evaluate the final weights, write numbers and pictures.

    Args:
        options: of the run.
    """
    # Detectron2 logs its environment and configuration on standard output. Here they go to
    # log.txt alone, and progress to the console.
    with contextlib.redirect_stdout(io.StringIO()):
        remove_checkpoints(Path(build_config(options).OUTPUT_DIR))  # of an earlier demo
        cfg = setup(options)
    _show_progress()
    output = Path(cfg.OUTPUT_DIR)
    print(f"Training CLQ for {cfg.SOLVER.MAX_ITER} iterations on {cfg.MODEL.DEVICE}.", flush=True)

    start, cpu_start = time.perf_counter(), cpu_seconds()
    trainer = CLQTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_start

    metrics = box_results_by_dataset(trainer.last_results, cfg.DATASETS.TEST)
    results = {split: metrics[dataset] for split, dataset in _TEST_SPLITS.items()}
    write_results(
        output / "results.json",
        results,
        seed=cfg.SEED,
        iterations=trainer.iter,
        seconds=round(seconds, 1),
        cpu_seconds=round(cpu, 1),
        torch=torch.__version__,
        cpu=cpu_name(),
        device=cfg.MODEL.DEVICE,
    )
    draw_training_curves(output / "metrics.json", output / "training.png", cfg.DATASETS.TEST)
    samples = read_samples(cfg, _TEST_SPLITS["test"])
    draw_samples(samples, output / "detections.png")
    _print_summary(results, output, seconds)


def read_samples(cfg: CfgNode, dataset_name: str) -> list[Sample]:
    """Images of an evaluated data set, with ground truth and the detections of the last evaluation.

    Args:
        cfg: whose ``OUTPUT_DIR`` holds the evaluation.
        dataset_name: key in Detectron2's catalogs; the images with most objects come first.
    """
    metadata = MetadataCatalog.get(dataset_name)
    truth = json.loads(Path(metadata.json_file).read_text())
    detections = json.loads(detections_file(cfg.OUTPUT_DIR, dataset_name).read_text())
    evaluation = run_coco_eval(truth, detections, max_detections=cfg.TEST.DETECTIONS_PER_IMAGE)
    matches = evaluation.image_diagnostics(iou_thr=MATCH_IOU)
    samples = []
    for image in truth["images"]:
        objects, found = (
            coco.loadAnns(coco.getAnnIds([image["id"]]))
            for coco in (evaluation.cocoGt, evaluation.cocoDt)
        )
        scores = {detection["id"]: detection["score"] for detection in found}
        matched = [matches["gt_match"].get(entry["id"]) for entry in objects]
        sample = Sample(
            image=read_image(Path(metadata.image_root, image["file_name"]), "RGB"),
            name=Path(image["file_name"]).stem,
            gt_boxes=_boxes(objects),
            gt_scores=np.array([scores.get(id_, np.nan) for id_ in matched]),
            pred_boxes=_boxes(found),
            scores=np.array(list(scores.values())),
            is_match=np.array([id_ in matches["dt_match"] for id_ in scores], dtype=bool),
        )
        samples.append(sample)
    return sorted(samples, key=lambda sample: -len(sample.gt_boxes))


def _boxes(annotations: list[dict[str, Any]]) -> np.ndarray:
    return np.array([entry["bbox"] for entry in annotations]).reshape(-1, 4)


def _show_progress() -> None:
    """Print iterations with their ETA, and what CLQ itself has to say."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("detectron2.utils.events", "clq"):
        logging.getLogger(name).addHandler(handler)


def _print_summary(results: dict[str, Any], output: Path, seconds: float) -> None:
    shown = METRIC_NAMES[:6]
    rows = [[split, *(metrics[name] for name in shown)] for split, metrics in results.items()]
    print(f"\nFinal weights after {seconds / 60:.1f} minutes, COCO metrics in percent:")
    print(tabulate(rows, ["test set", *shown], floatfmt=".1f", tablefmt="simple"))
    for name in ("results.json", "training.png", "detections.png", "report/index.html"):
        if (output / name).is_file():  # TEST.REPORT may be off
            print(output / name)
