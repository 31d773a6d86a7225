#!/usr/bin/env python
"""Does a training survive being killed, and damaged checkpoints?

Trains the demo's detector on small images of its trees for a few iterations, once unbroken. Then
trains it again and again: each time the process is killed by SIGKILL at a random moment and its
command repeated with --resume. A third of the moments follows the start of a save, a third that
of an evaluation, and the others lie anywhere. Last, the newest checkpoint of finished trainings is
cut short or one of its bits flipped, and the training resumed. All must end with the weights, the
optimizer's state and the metrics of the unbroken training, to the last bit. The exit code is 1 if
one does not.

  as committed   python benchmarks/faults.py
  a short look   python benchmarks/faults.py --kills 3 --damages 2 --results faults.csv
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.common import commit, write_rows  # noqa: E402
from clq.engine import exit_on_user_error  # noqa: E402
from clq.utils.hardware import cpu_name  # noqa: E402

CONFIG = ROOT / "configs" / "Demo" / "clq_trees.yaml"
KEYS: dict[str, Any] = {
    "DETERMINISTIC": True,
    "MODEL.DEVICE": "cpu",
    "SEED": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.REFERENCE_BATCH_SIZE": 0,
    "SOLVER.MAX_ITER": 16,
    "SOLVER.WARMUP_ITERS": 5,
    "SOLVER.CHECKPOINT_PERIOD": 3,
    "TEST.EVAL_PERIOD": 5,
    "INPUT.MIN_SIZE_TRAIN": "(128,)",
    "INPUT.MIN_SIZE_TEST": 128,
}
START, SAVE, EVALUATION = "Starting training", "Saving checkpoint", "Start inference"
SAVES, EVALUATIONS = 6, 4  # in an unbroken training
OF_TIME = ("time", "data_time", "rank_data_time", "eta_seconds")
FIELDS = ("trial", "fault", "found", "workers", "ends_equal", "seconds")
FIELDS += ("machine", "torch", "commit", "date")
RESULTS = Path("benchmarks/results/faults.csv")


def start(output: Path, *flags: str, workers: int) -> subprocess.Popen:
    """The training as a user starts it, in one thread."""
    keys = {**KEYS, "DATALOADER.NUM_WORKERS": workers, "OUTPUT_DIR": output}
    options = [str(part) for item in keys.items() for part in item]
    return subprocess.Popen(
        [sys.executable, "train_net.py", "--config-file", str(CONFIG), *flags, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def log_lines(output: Path) -> list[str]:
    log = output / "log.txt"
    return log.read_text(errors="replace").splitlines() if log.exists() else []


def kill_after(process: subprocess.Popen, output: Path, text: str, count: int, delay: float) -> str:
    """Kill a training some seconds after the ``count``-th line of its log that has ``text``.

    Returns:
        What the training was doing, by the last words of its log.
    """
    while sum(text in line for line in log_lines(output)) < count and process.poll() is None:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    doing = next((line for line in reversed(log_lines(output)) if line.startswith("[")), "")
    return doing.partition("INFO: ")[2].partition(" to /")[0][:60]  # no folder of this machine


def killed_and_resumed(output: Path, kind: int, seconds: float, rng: random.Random) -> str:
    """Run a training that is killed once, and its end; ``kind`` chooses the moment."""
    process = start(output, workers=2 * (kind % 2))
    if kind % 3 == 0:
        doing = kill_after(process, output, START, 1, rng.uniform(0, seconds))
    elif kind % 3 == 1:
        doing = kill_after(process, output, SAVE, rng.randint(1, SAVES), rng.uniform(0, 0.3))
    else:
        count = rng.randint(1, 2 * EVALUATIONS)
        doing = kill_after(process, output, EVALUATION, count, rng.uniform(0, 0.3))
    if start(output, "--resume", workers=2 * (kind % 2)).wait():
        raise ValueError(f"the resumed training in {output} failed, see its log.txt.")
    return doing


def damage(path: Path, rng: random.Random, *, flip: bool) -> str:
    """Flip one bit of a file, or cut it short; tells where."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if flip:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content if flip else content[:place])
    return f"byte {place} of {path.name}"


def damaged_and_resumed(output: Path, kind: int, unbroken: Path, rng: random.Random) -> str:
    """Damage the newest checkpoint of a finished training and let it go on."""
    shutil.copytree(unbroken, output, dirs_exist_ok=True)
    newest = output / (output / "last_checkpoint").read_text()
    where = damage(newest, rng, flip=kind % 2 == 0)
    (output / "log.txt").unlink()
    if start(output, "--resume", workers=0).wait():
        raise ValueError(f"the resumed training in {output} failed, see its log.txt.")
    told = [line for line in log_lines(output) if "is damaged" in line and "Going back" in line]
    return where if told else f"{where}, NOT NOTICED"


def ends_equal(output: Path, unbroken: Path) -> bool:
    """Tell whether two trainings ended with the same weights, optimizer and metrics."""
    ends = [torch.load(folder / "model_final.pth") for folder in (output, unbroken)]
    tensors = [_tensors([end["model"], end["trainer"]["_trainer"]["optimizer"]]) for end in ends]
    same_state = len(tensors[0]) == len(tensors[1]) and all(map(torch.equal, *tensors))
    results = [(folder / "results.json").read_text() for folder in (output, unbroken)]
    return same_state and results[0] == results[1] and _curve(output) == _curve(unbroken)


def _tensors(content: Any) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [content]
    if isinstance(content, dict):
        content = list(content.values())
    return [t for part in content for t in _tensors(part)] if isinstance(content, list) else []


def _curve(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [str({k: v for k, v in line.items() if k not in OF_TIME}) for line in lines]


def run_trials(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All trials, as far as the time allows; the rows of the table."""
    rng = random.Random(options.seed)
    deadline = time.monotonic() + 60 * options.minutes
    unbroken = folder / "unbroken"
    process = start(unbroken, workers=0)
    while not any(START in line for line in log_lines(unbroken)) and process.poll() is None:
        time.sleep(0.01)
    begun = time.monotonic()
    if process.wait():
        raise ValueError(f"the unbroken training in {unbroken} failed, see its log.txt.")
    duration = time.monotonic() - begun
    always = {"machine": cpu_name(), "torch": torch.__version__, "commit": commit()}
    rows: list[dict[str, Any]] = []
    plan = [("kill", k) for k in range(options.kills)] + [
        ("flipped bit" if k % 2 == 0 else "cut short", k) for k in range(options.damages)
    ]
    for fault, kind in plan:
        if time.monotonic() > deadline:
            raise ValueError(f"only {len(rows)} of {len(plan)} trials ended in time: --minutes.")
        output, begun = folder / "trial", time.monotonic()
        if fault == "kill":
            found = killed_and_resumed(output, kind, duration, rng)
        else:
            found = damaged_and_resumed(output, kind, unbroken, rng)
        equal = ends_equal(output, unbroken) and "NOT" not in found
        seconds, workers = time.monotonic() - begun, 2 * (kind % 2) if fault == "kill" else 0
        row = {"trial": len(rows) + 1, "fault": fault, "found": found, "workers": workers}
        row |= {"ends_equal": equal, "seconds": round(seconds, 1), **always}
        rows.append({**row, "date": date.today().isoformat()})
        print(f"{len(rows)}/{len(plan)} {fault} ({found}): equal {equal}", flush=True)
        if equal:  # else it stays, to look at
            shutil.rmtree(output)
        else:
            output.rename(folder / f"trial_{len(rows)}")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="trainings to kill (default: 30)")
    parser.add_argument("--damages", type=int, default=10, help="checkpoints to damage (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--minutes", type=float, default=40, help="longest duration (40)")
    parser.add_argument("--output", type=Path, help="folder to keep; default: a temporary one")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    options = parser.parse_args(argv)
    with (
        exit_on_user_error(hint="start again"),
        tempfile.TemporaryDirectory(prefix="clq_faults_") as scratch,
    ):
        rows = run_trials(options, options.output or Path(scratch))
        write_rows(options.results, FIELDS, rows)
    shown = [{field: row[field] for field in FIELDS[:6]} for row in rows]
    print(tabulate(shown, headers="keys", tablefmt="github"))
    for kind in ("kill", ""):
        chosen = [row for row in rows if (row["fault"] == "kill") == (kind == "kill")]
        what = "killed and resumed" if kind else "damaged checkpoints refused, the one before used"
        print(f"{sum(r['ends_equal'] for r in chosen)} of {len(chosen)} {what}.")
    return int(not all(row["ends_equal"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
