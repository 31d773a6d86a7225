#!/usr/bin/env python
"""Time CLQ and its peers on a GPU, row by row, and write the table.

Every row is absolute: the median over the calls of a case on one device, with the lowest and the
highest call beside it, images a second, and the most memory that PyTorch had allocated there (in MB
of 10^6 bytes, weights and inputs included). Calls are timed by CUDA events after three calls to
warm up; each begins when the device has nothing left to do, so that a row says what a caller waits
for. Images and ground truth are on the device before. A case that runs out of memory or fails says
so, and the others go on; the exit code is 1 if one of CLQ failed. The file is written anew after
each row.

What is timed
  inference        uint8 images to final boxes: normalisation, network, scores, decoding and NMS
  training step    images of 20 boxes each: forward, losses, backward and SGD with momentum
  losses           from predictions of 2 images to their gradients: labels, losses, backward
  post-processing  from logits of one image to final boxes, where 1,000 pairs of anchor and class a
                   level exceed the score threshold; then the network and the same
  alignment        the deformable 3x3 convolution of 1 x 256 x 100 x 136 with 4 offset groups
  matching         boxes on one image of 800 x 1344, anchors made before

Precisions: fp32 with TF32 off, tf32 with it on, fp16 and bf16 by autocast (TF32 off, and with fp16
a scaled loss). CLQ has R-50 and X-101-32x4d. The peers are Detectron2's RetinaNet and FCOS and
torchvision's, all with R-50; benchmarks/timing/models.py says how their random weights are made
alike. Those of torchvision do not train here.

  a GPU                    make bench DEVICE=cuda            (at most 25 minutes)
  its short form           python benchmarks/speed_cuda.py --quick --results FILE.json
  does the command run?    python benchmarks/speed_cuda.py --device cpu --quick
                           (small images, whose times mean nothing)
"""

import argparse
import datetime
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import detectron2
import torch
import torchvision
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.common import commit  # noqa: E402
from benchmarks.timing.device_cases import (  # noqa: E402
    FULL,
    ON_CPU,
    QUICK,
    Case,
    allow_tf32,
    cases,
)
from benchmarks.timing.on_device import Clock, give_back_memory  # noqa: E402
from benchmarks.timing.report import number, write_report  # noqa: E402
from clq.engine import exit_on_user_error  # noqa: E402
from clq.utils.hardware import cpu_name  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "speed_cuda.json"
MINUTES, QUICK_MINUTES = 25.0, 2.6
OUT_OF_MEMORY, LEFT_OUT, FAILED = "out of memory", "left out: no time", "failed: "


def environment(device: torch.device) -> dict[str, Any]:
    """Software and machine that the numbers depend on."""
    found: dict[str, Any] = {"device": cpu_name()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found = {
            "device": properties.name,
            "memory": f"{properties.total_memory / 1e9:.0f} GB",
            "capability": f"{properties.major}.{properties.minor}",
            "driver": driver_version(),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    return {
        **found,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detectron2": detectron2.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def driver_version() -> str:
    """Version of the NVIDIA driver, as its own tool tells it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def measure(found: Iterable[Case], clock: Clock, until: float) -> Iterator[dict[str, Any]]:
    """The row of each case as soon as it is there; a case that fails has its reason as note.

    Args:
        found: the cases.
        clock: times their calls.
        until: time of ``time.perf_counter`` after which no further case is begun.
    """
    for case in found:
        row = {
            "what": case.what,
            "model": case.model,
            "size": "{} x {}".format(*case.size),
            "batch": case.batch,
            "precision": case.precision,
            **dict.fromkeys(("ms", "spread", "images_per_second", "peak_mb")),
            "calls": 0,
            "note": "",
        }
        if time.perf_counter() > until:
            row["note"] = LEFT_OUT
        else:
            row.update(_measured(case, clock))
            give_back_memory()
        yield row


def _measured(case: Case, clock: Clock) -> dict[str, Any]:
    """The numbers of a case, or a note."""
    allow_tf32(case.precision)
    try:
        calls = clock.time(case.prepare())
    except torch.OutOfMemoryError:
        return {"note": OUT_OF_MEMORY}
    except Exception as error:  # of any kind: the others don't depend on this one
        traceback.print_exc()
        return {"note": f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    rate = 1000 * case.batch / calls.median if case.counts_images else None
    return {
        "ms": calls.median,
        "spread": [min(calls.milliseconds), max(calls.milliseconds)],
        "images_per_second": rate,
        "peak_mb": calls.peak_mb,
        "calls": len(calls.milliseconds),
    }


def is_ours(row: Mapping[str, Any]) -> bool:
    return row["model"].startswith("clq")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in markdown."""
    plain = ("what", "model", "size", "batch", "precision")
    lines = [
        [
            *(str(row[name]) for name in plain),
            number(row["ms"]),
            "–".join(map(number, row["spread"] or [])),
            *(number(row[name]) for name in ("images_per_second", "peak_mb")),
            *(str(row[name]) for name in ("calls", "note")),
        ]
        for row in rows
    ]
    headers = (*plain, "ms", "of a call", "images a second", "peak MB", "calls", "note")
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument(
        "--quick", action="store_true", help="one size, one batch of steps, few calls: 3 minutes"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"after which cases are left out (default: {MINUTES:g}, with --quick {QUICK_MINUTES})",
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="json to write, with a table in markdown beside it (default: benchmarks/results/"
        f"{RESULTS.name} for the whole form on a GPU, else none)",
    )
    options = parser.parse_args(argv)
    options.device = torch.device(options.device)
    if options.device.type == "cpu" and not options.quick:
        parser.error("--device cpu only tries the command, with --quick: `make bench` times CPUs.")
    if options.minutes is None:
        options.minutes = QUICK_MINUTES if options.quick else MINUTES
    if options.results is None and not options.quick:
        options.results = RESULTS
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    device = options.device
    scale = ON_CPU if device.type == "cpu" else QUICK if options.quick else FULL
    method = f"## Method\n\n```text\n{__doc__}```"
    rows: list[dict[str, Any]] = []
    with exit_on_user_error(hint="start again"):
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError("there is no CUDA device here; `make bench` measures the processor.")
        until = time.perf_counter() + 60 * options.minutes
        described = environment(device)
        print("\n".join(f"{name}: {value}" for name, value in described.items()), flush=True)
        clock = Clock(device, seconds=scale.seconds, most=scale.calls)
        for row in measure(cases(scale, device), clock, until):
            rows.append(row)
            told = row["note"] or f"{number(row['ms'])} ms"
            place = (row["what"], row["model"], row["size"], row["batch"], row["precision"])
            print(*place, told, sep=", ", flush=True)
            if options.results:
                write_report(options.results, described, rows, method, table)
    print("\n" + table(rows))
    failed = [row for row in rows if row["note"].startswith(FAILED) and is_ours(row)]
    if failed:
        print(f"{len(failed)} rows of CLQ failed.", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
