#!/usr/bin/env python
"""Time what is ours beside its peers, and write the table.

Every row is a ratio from one run: ours and its peers take turns in one process with the same
number of threads (A B C, A B C, ...), after a call of each to warm up: all but batches of 8 and
pycocotools, whose calls are long. A row gives the medians of the rounds and the ratio of those;
below 1 ours is faster or smaller. Beside it stand the lowest and the highest ratio of a single
round. A round during which other programs took more than 10 % of the machine's processor time
(steal included) is made again, as often as there were rounds and while there is time; the table
says how many of the rounds that count were disturbed all the same.

What is timed
  inference_*     one uint8 image of 800 x 1088, to final boxes: normalisation, network, scores,
                  decoding and NMS; no decoding of files and no resizing. fp32 but for
                  inference_fast, the form for deployment on CPU. Its preparation is not timed.
  batch8_*        time per image in a batch of 8 divided by that of one image
  postprocess_*   from logits to final boxes, beside network and the same, with logits of which
                  1,000 pairs of anchor and class a level exceed the score threshold
  step_*          two images of 20 boxes each: forward, losses, backward and SGD with momentum; no
                  data loading, no logging
  step_memory_*   resident memory (VmHWM) of a process of its own at its peak in such a step, when
                  the optimizer has its state; Python and libraries included, in MB of 10^6 bytes
  losses_*        from predictions to their gradients: labels, losses, backward
  alignment_*     the deformable 3x3 convolution of 1 x 256 x 100 x 136 with 4 offset groups,
                  beside torchvision's operator; backward to all three inputs; _memory is how much
                  a process grows during forward and backward
  matching_*      boxes on an image of 800 x 1344, anchors made before, beside the slow reference
                  of the tests, one box at a time; _mb is how much a process grows
                  (of growth, the median of three processes)
  evaluation      the 12 numbers of COCO from 5,000 images with 100 detections each, in memory,
                  beside pycocotools; both give the same numbers, which is checked. hotcoco
                  takes all cores, pycocotools one
  data_loading    400 images from JPEG files to batches of 2, in the process itself, beside
                  Detectron2's loader with its default mapper

The peers are Detectron2's RetinaNet and FCOS R-50-FPN from its own configs, and torchvision's
retinanet_resnet50_fpn_v2 and fcos_resnet50_fpn. No model is trained; all backbones are scaled
alike so that activations and losses are of the size that they have in a training and no model has
boxes to suppress, which is checked. Each model is as its own configuration builds it: CLQ keeps
weights and maps channels-last (MODEL.CHANNELS_LAST), the peers do not. Detectron2's peers divide no
pixels by a standard deviation and have the stride in the 1x1 convolutions, as its configs say.
"""

import argparse
import datetime
import gc
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import detectron2
import torch
import torchvision

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.common import commit, run_apart  # noqa: E402
from benchmarks.timing.groups import Group, Peaks, Timed, groups  # noqa: E402
from benchmarks.timing.models import SIZE  # noqa: E402
from benchmarks.timing.peak import peak  # noqa: E402
from benchmarks.timing.report import table, write_report  # noqa: E402
from benchmarks.timing.rows import result  # noqa: E402
from benchmarks.timing.turns import take_turns  # noqa: E402
from clq.engine import exit_on_user_error  # noqa: E402
from clq.utils.hardware import cpu_name  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """Software and machine that the numbers depend on."""
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    return {
        "processor": cpu_name(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "precision": "fp32; inference_fast: bf16 where the processor has it",
        "input": f"{SIZE[0]} x {SIZE[1]}",
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detectron2": detectron2.__version__,
        "pycocotools": importlib.metadata.version("pycocotools"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def measure_timed(group: Timed, options: argparse.Namespace, until: float) -> list[dict[str, Any]]:
    """The rows of a group that takes turns."""
    torch.set_num_threads(group.threads or options.threads)
    names = list(dict.fromkeys(name for row in group.rows for name in row.series()))
    runs = group.build(names)
    rounds = options.rounds or group.rounds
    timing = take_turns(runs, rounds, until, cold=group.cold)
    group.check(timing.results)
    series = {
        name: [second / group.per_call.get(name, 1) for second in seconds]
        for name, seconds in timing.seconds.items()
    }
    counts = {"rounds": min(rounds, timing.made), "disturbed": timing.disturbed}
    return [result(row, series, "s", **counts) for row in group.rows]


def measure_peaks(group: Peaks, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a group of peaks; no timing, so that other load does not matter."""
    series = {}
    for name in dict.fromkeys(name for row in group.rows for name in row.series()):
        found = [run_apart(peak, group.prepare[name], options.threads) for _ in range(group.rounds)]
        series[name] = [one.whole if group.whole else one.growth for one in found]
    return [result(row, series, "MB", rounds=group.rounds, disturbed=0) for row in group.rows]


def measure(
    chosen: Sequence[Group], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all groups, and the names of groups that failed."""
    rows, failed = [], []
    deadline = time.perf_counter() + 60 * options.minutes
    for i, group in enumerate(chosen):
        start = time.perf_counter()
        share = group.estimate / sum(other.estimate for other in chosen[i:])
        try:
            if isinstance(group, Peaks):
                rows += measure_peaks(group, options)
            else:
                rows += measure_timed(group, options, start + share * (deadline - start))
        except Exception:
            traceback.print_exc()
            failed.append(group.name)
        gc.collect()
        print(f"{group.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return rows, failed


def choose(found: Sequence[Group], names: Sequence[str] | None) -> list[Group]:
    """Groups with the named rows only; all of them by default."""
    if names is None:
        return list(found)
    kept = [
        group._replace(rows=tuple(row for row in group.rows if row.name in names))
        for group in found
    ]
    return [group for group in kept if group.rows]


def parse(argv: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        metavar="NAME",
        help=f"measure these rows only, and write them only if --json is given: {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=int, help="that count, instead of each group's own number")
    parser.add_argument(
        "--minutes", type=float, default=22, help="after which rounds are left out (default: 22)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    parser.add_argument(
        "--json",
        type=Path,
        help=f"where to write the rows, with a table in markdown beside it (default: {RESULTS})",
    )
    options = parser.parse_args(argv)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.json is None and options.only is None:
        options.json = RESULTS
    return options


def main(argv: Sequence[str] | None = None) -> int:
    with tempfile.TemporaryDirectory(prefix="clq_speed_") as folder:
        found = groups(Path(folder))
        names = [row.name for group in found for row in group.rows]
        options = parse(argv, names)
        described = environment(options)
        print("\n".join(f"{name}: {value}" for name, value in described.items()), flush=True)
        with exit_on_user_error(hint="nothing was written"):
            rows, failed = measure(choose(found, options.only), options)
    print("\n" + table(rows))
    if failed:
        print(f"Failed, so that nothing was written: {', '.join(failed)}", file=sys.stderr)
        return 1
    if options.json:
        write_report(options.json, described, rows, f"## Method\n\n```text\n{__doc__}```")
    return 0


if __name__ == "__main__":
    sys.exit(main())
