"""Run one cell: train, evaluate, and describe it in one row of the results."""

import contextlib
import datetime
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.data import MetadataCatalog

from benchmarks.common import commit, device_name
from clq.engine import CLQTrainer, RunOptions, build_config, setup
from clq.evaluation import box_results_by_dataset, evaluate_boxes
from clq.evaluation.report.matches import match_detections, match_run
from clq.evaluation.report.measure import ranked_by_iou
from clq.evaluation.results import class_aps
from clq.utils.hardware import cpu_seconds

from .candidates import NUM_CANDIDATES, best_candidates, suppressed
from .cells import Cell, member_keys
from .data_sets import DataSet
from .identity import shared_hash
from .matches_file import save_matches

_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
MATCHES = "matches.npz"


def cell_hash(cell: Cell, data: DataSet, opts: Sequence[str]) -> str:
    """The hash of settings and data that a cell will have; arguments as those of ``run_cell``."""
    return shared_hash(build_config(_options(cell, data, opts)), member_keys(cell.member)[::2])


def _options(cell: Cell, data: DataSet, opts: Sequence[str]) -> RunOptions:
    keys = [*member_keys(cell.member), *opts, "SEED", cell.seed]
    return data.options(list(map(str, keys)))


def run_cell(cell: Cell, data: DataSet, opts: Sequence[str], output: Path) -> dict[str, Any]:
    """Train and evaluate a cell in this process.

    Args:
        cell: what to run.
        data: the cell's data set.
        opts: further configuration keys and values, the same for every cell.
        output: the run's own folder.

    Returns:
        The row: AP in percent, times in seconds. The matches lie in the run's folder.
    """
    keys = member_keys(cell.member)
    made_by = commit()  # at the start: the folder may move on meanwhile
    options = _options(cell, data, [*opts, "OUTPUT_DIR", str(output), "TEST.REPORT", "False"])
    with contextlib.redirect_stdout(io.StringIO()):  # Detectron2 logs to log.txt alone
        cfg = setup(options)
    start, cpu_start = time.perf_counter(), cpu_seconds()
    trainer = CLQTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_start

    (name,) = cfg.DATASETS.TEST
    metrics = box_results_by_dataset(trainer.last_results, [name])[name]
    truth = json.loads(Path(MetadataCatalog.get(name).json_file).read_text())
    loader = CLQTrainer.build_test_loader(cfg, name)
    candidates = best_candidates(trainer.model, loader, truth)
    nms, limit = cfg.MODEL.CLQ.NMS_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE
    detections = suppressed(candidates, iou=nms, limit=limit)
    save_matches(output / MATCHES, match_detections(truth, detections))
    everything = match_run(truth, candidates, max_detections=NUM_CANDIDATES)
    best = suppressed(ranked_by_iou(candidates, everything), iou=nms, limit=limit)
    return {
        **cell._asdict(),
        "hash": shared_hash(cfg, keys[::2]),
        "keys": " ".join(map(str, keys)),
        **{metric: round(metrics[metric], 3) for metric in _METRICS},
        "class_AP": json.dumps({name: round(ap, 2) for name, ap in class_aps(metrics).items()}),
        "AP_by_score": round(evaluate_boxes(truth, detections)["AP"], 3),
        "AP_by_true_IoU": round(evaluate_boxes(truth, best)["AP"], 3),
        "iterations": cfg.SOLVER.MAX_ITER,
        "seconds": round(seconds, 1),
        "seconds_per_iteration": round(
            trainer.storage.history("time").median(cfg.SOLVER.MAX_ITER), 4
        ),
        "cpu_seconds": round(cpu, 1),
        "machine": device_name(cfg.MODEL.DEVICE),
        "torch": torch.__version__,
        "commit": made_by,
        "date": datetime.date.today().isoformat(),
    }
