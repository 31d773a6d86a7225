#!/usr/bin/env python
"""Time the parts of CLQ that are ours beside a peer, in one process.

Ours and peer take turns (A B A B ...) after a warm-up, so that a busy machine slows both. The
table gives medians and the ratio of medians; below 1 ours is faster.

  alignment   the deformable convolution as CPU runs it, beside torchvision's operator, at
              1 x 256 x 100 x 136 with 4 offset groups
  matching    100 boxes on an 800 x 1088 image, beside the slow reference of the tests, one box
              at a time
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes
from tabulate import tabulate
from torchvision.ops import deform_conv2d

from clq.modeling import ATSSMatcher
from clq.modeling.deform_conv import deform_conv3x3

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from reference.atss import plain_atss  # noqa: E402

STRIDES = (8, 16, 32, 64, 128)


def alignment(backward: bool) -> tuple[Callable[[], object], Callable[[], object]]:
    """Ours and torchvision's, forward or forward and backward."""
    feature = torch.randn(1, 256, 100, 136)
    offset, weight = torch.randn(1, 72, 100, 136), torch.randn(256, 256, 3, 3)

    def run(form: Callable[..., torch.Tensor]) -> object:
        if not backward:
            with torch.no_grad():
                return form(feature, offset, weight)
        leaves = [x.clone().requires_grad_() for x in (feature, offset, weight)]
        return form(*leaves).sum().backward()

    return lambda: run(deform_conv3x3), lambda: run(lambda *x: deform_conv2d(*x, padding=1))


def matching() -> tuple[Callable[[], object], Callable[[], object]]:
    """Ours and the plain assigner on the same boxes."""
    generator = DefaultAnchorGenerator(
        sizes=[[8 * s] for s in STRIDES], aspect_ratios=[1.0], strides=STRIDES, offset=0.0
    )
    anchors = generator([torch.zeros(1, 1, -(-800 // s), -(-1088 // s)) for s in STRIDES])
    corner = torch.rand(100, 2) * 700
    boxes = Boxes(torch.cat((corner, corner + 20 + torch.rand(100, 2) * 200), dim=1))
    return lambda: ATSSMatcher(9)(anchors, boxes), lambda: plain_atss(anchors, boxes)


def compare(pair: tuple[Callable[[], object], Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of ours and of the peer."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for run, seconds in zip(pair, times):
            start = time.perf_counter()
            run()
            if i > 0:  # the first round warms up
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default: 5)")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    torch.manual_seed(0)
    pairs = {
        "alignment_forward": alignment(backward=False),
        "alignment_forward_backward": alignment(backward=True),
        "matching_100": matching(),
    }
    rows = []
    for name, pair in pairs.items():
        ours, peer = compare(pair, options.rounds)
        rows.append({"name": name, "ours": ours, "peer": peer, "ratio": ours / peer})
    print(f"{platform.platform()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(tabulate(rows, headers="keys", floatfmt=".3f", tablefmt="github"))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
