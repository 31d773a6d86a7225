"""Run one cell: train, evaluate, and describe it in one row of the results."""

import contextlib
import datetime
import io
import json
import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.data import MetadataCatalog

from clq.checkpoint import remove_checkpoints
from clq.engine import CLQTrainer, clq_argument_parser, setup
from clq.engine.machine import cpu_name, cpu_seconds
from clq.evaluation import box_results_by_dataset
from clq.evaluation.results import class_aps

from .cells import ROOT, Cell, DataSet, member_keys
from .ranking import rank_correlation

# What decides a result.
_CODE = (
    *("projects", "configs", "benchmarks", "tests/reference", "train_net.py", "requirements.txt"),
    ":!benchmarks/results",
)
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_TRUTH = "truth.json"
_T = TypeVar("_T")


def run_cell(cell: Cell, data: DataSet, output: Path, opts: Sequence[str]) -> dict[str, Any]:
    """Train and evaluate a cell in this process.

    Args:
        cell: what to run.
        data: the cell's data set.
        output: the run's own folder; the detections and their ground truth stay in it.
        opts: further configuration keys and values, the same for every cell.

    Returns:
        The row without ``commit``: AP in percent, times in seconds.
    """
    keys = [*member_keys(cell.member), *opts, "SEED", cell.seed, "OUTPUT_DIR", str(output)]
    args = clq_argument_parser().parse_args([*data.arguments(), *map(str, keys)])
    remove_checkpoints(output)  # of the cell, where it is run again
    with contextlib.redirect_stdout(io.StringIO()):  # Detectron2 logs to log.txt alone
        cfg = setup(args)
    start, cpu_start = time.perf_counter(), cpu_seconds()
    trainer = CLQTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_start

    metrics = box_results_by_dataset(trainer.last_results, cfg.DATASETS.TEST)[cfg.DATASETS.TEST[0]]
    shutil.copyfile(MetadataCatalog.get(cfg.DATASETS.TEST[0]).json_file, output / _TRUTH)
    step = trainer.storage.history("time").median(cfg.SOLVER.MAX_ITER)
    return {
        **cell._asdict(),
        **{name: round(metrics[name], 3) for name in _METRICS},
        "class_AP": json.dumps({name: round(ap, 2) for name, ap in class_aps(metrics).items()}),
        "rank_correlation": round(rank_correlation(*read_detections(output)), 4),
        "iterations": cfg.SOLVER.MAX_ITER,
        "seconds": round(seconds, 1),
        "seconds_per_iteration": round(step, 4),
        "cpu_seconds": round(cpu, 1),
        "machine": cpu_name(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }


def read_detections(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The ground truth and the detections, in COCO's format, that a run left in its folder."""
    (found,) = folder.glob("inference/*/coco_instances_results.json")
    return json.loads((folder / _TRUTH).read_text()), json.loads(found.read_text())


def run_apart(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function in a process of its own, so that cells share neither memory nor loggers.

    Raises:
        Exception: what the function raised, or that its process ended.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def commit() -> str:
    """The commit that the code is at, with "-dirty" where a file that decides a result differs.

    "unknown" outside a git checkout.
    """
    git = ["git", "--no-optional-locks", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *_CODE])
    return head.stdout.strip() + ("-dirty" if differs.returncode else "")
