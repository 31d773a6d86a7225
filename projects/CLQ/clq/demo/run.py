"""The demo: one training run, its numbers and its pictures."""

import contextlib
import io
import json
import logging
import math
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
from ..evaluation.coco_evaluation import detections_file
from ..evaluation.report.matches import match_run
from ..evaluation.report.operating_points import count
from ..runtime.images import read_image
from ..utils.hardware import cpu_name, cpu_seconds
from .figures import Sample, draw_samples, draw_training_curves

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
    draw_samples(*read_samples(cfg, _TEST_SPLITS["test"]), output / "detections.png")
    _print_summary(results, output, seconds)


def read_samples(cfg: CfgNode, dataset_name: str) -> tuple[list[Sample], float]:
    """Read images of an evaluated data set, ground truth and the last evaluation's detections.

    Args:
        cfg: whose ``OUTPUT_DIR`` holds the evaluation.
        dataset_name: key in Detectron2's catalogs.

    Returns:
        The images with most objects first; and the score, rounded down to 0.01, at which F1 is
        best, or 1 if no detection matches.
    """
    metadata = MetadataCatalog.get(dataset_name)
    truth = json.loads(Path(metadata.json_file).read_text())
    found = json.loads(detections_file(cfg.OUTPUT_DIR, dataset_name).read_text())
    run = match_run(truth, found, max_detections=cfg.TEST.DETECTIONS_PER_IMAGE)
    objects, detections, is_match = run.objects, run.detections, run.matches.is_match[:, 0]
    gt_scores = np.full(len(objects), np.nan)
    gt_scores[run.found[is_match]] = detections.score[is_match]
    samples = []
    for i, image in enumerate(truth["images"]):
        of_image, found_in_image = objects.image == i, detections.image == i
        sample = Sample(
            image=read_image(Path(metadata.image_root, image["file_name"]), "RGB"),
            name=Path(image["file_name"]).stem,
            gt_boxes=objects.box[of_image],
            gt_scores=gt_scores[of_image],
            pred_boxes=detections.box[found_in_image],
            scores=detections.score[found_in_image],
            is_match=is_match[found_in_image],
        )
        samples.append(sample)
    counts = count(run.matches)
    best = counts.score[counts.f1().argmax()] if counts.found.any() else 1.0
    samples.sort(key=lambda sample: -len(sample.gt_boxes))
    return samples, math.floor(100 * best) / 100


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
