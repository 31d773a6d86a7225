#!/usr/bin/env python
"""Does a long training grow in memory?

Trains the demo's detector for some iterations, without evaluation, and prints the resident memory
of the process after every 100. The exit code is 1 if it grows by more than --most MB after the
first 200 iterations. Data is loaded in the same process.

  as the demo      python benchmarks/memory.py
  small images     python benchmarks/memory.py --opts INPUT.MIN_SIZE_TRAIN "(128,)"
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.engine import HookBase

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.common import commit  # noqa: E402
from clq.engine import CLQTrainer, RunOptions, exit_on_user_error, setup  # noqa: E402
from clq.utils.hardware import cpu_name  # noqa: E402

CONFIG = ROOT / "configs" / "Demo" / "clq_trees.yaml"
PERIOD, WARMUP = 100, 200
MEGABYTE = 1 << 20


class WatchMemory(HookBase):
    """Notes and prints the resident memory after every ``PERIOD`` iterations."""

    def __init__(self) -> None:
        self.megabytes: dict[int, float] = {}

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % PERIOD == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.megabytes[done] = pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE
            print(f"{done} iterations: {self.megabytes[done]:.0f} MB", file=sys.stderr, flush=True)


def watch(iterations: int, opts: Sequence[str], output: str) -> dict[int, float]:
    """Resident memory in MB by the number of iterations done."""
    keys = ["SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", 500, "DATASETS.TEST", "()"]
    keys += ["DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", output, *opts]
    options = RunOptions(config_file=str(CONFIG), opts=list(map(str, keys)))
    with contextlib.redirect_stdout(io.StringIO()):  # Detectron2 logs to log.txt alone
        trainer = CLQTrainer(setup(options))
        trainer.resume_or_load(resume=False)
        hook = WatchMemory()
        trainer.register_hooks([hook])
        trainer.train()
    return hook.megabytes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=2000, help="default: 2000")
    parser.add_argument("--most", type=float, default=50, help="MB that it may grow (default: 50)")
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="configuration, as SEED 9"
    )
    options = parser.parse_args(argv)
    with (
        exit_on_user_error(hint="start again"),
        tempfile.TemporaryDirectory(prefix="clq_memory_") as output,
    ):
        megabytes = watch(options.iterations, options.opts, output)
        if len(megabytes) <= WARMUP // PERIOD:
            raise ValueError(f"--iterations is {options.iterations}; it must exceed {WARMUP}.")
    after = [value for done, value in megabytes.items() if done >= WARMUP]
    growth = max(after) - after[0]
    print(
        f"{growth:.1f} MB more than after {WARMUP} iterations at most, in {options.iterations} "
        f"({' '.join(options.opts) or 'the demo as it is'}); {cpu_name()}, "
        f"torch {torch.__version__}, commit {commit()}"
    )
    return int(growth > options.most)


if __name__ == "__main__":
    sys.exit(main())
