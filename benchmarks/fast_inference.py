#!/usr/bin/env python
"""Measure what fast inference on CPU costs in AP, on the trained demo.

Evaluates the weights that `make demo` leaves on its test sets, as they are and by
MODEL.FAST_INFERENCE, and prints both. The exit code is 1 if an AP differs by more than --most
points.

  python benchmarks/fast_inference.py
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import clq  # noqa: E402
from benchmarks.common import commit  # noqa: E402
from clq.engine import exit_on_user_error  # noqa: E402
from clq.modeling.fast_inference import cpu_supports_bf16  # noqa: E402
from clq.utils.hardware import cpu_name  # noqa: E402

CONFIG = ROOT / "configs" / "Demo" / "clq_trees.yaml"


def evaluate(config: Path, weights: Path, *, fast: bool) -> dict[str, float]:
    """AP in percent by test set."""
    with tempfile.TemporaryDirectory(prefix="clq_fast_") as output:
        opts = {"MODEL.DEVICE": "cpu", "MODEL.FAST_INFERENCE": fast}
        with contextlib.redirect_stdout(io.StringIO()):
            clq.evaluate(weights, config=config, output_dir=output, opts=opts)
        results = json.loads(Path(output, "results.json").read_text())
    return {name: numbers["AP"] for name, numbers in results.items()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, default=CONFIG, help="default: the demo's")
    parser.add_argument(
        "--weights", type=Path, default=Path("output/demo/model_final.pth"), help="the demo's"
    )
    parser.add_argument("--most", type=float, default=0.3, help="points of AP (default: 0.3)")
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="start again"):
        full, fast = (
            evaluate(options.config_file, options.weights, fast=fast) for fast in (False, True)
        )
    rows = [(name, full[name], fast[name], fast[name] - full[name]) for name in full]
    print(tabulate(rows, ("test set", "AP in fp32", "AP fast", "difference"), floatfmt=".2f"))
    form = "bf16" if cpu_supports_bf16() else "fp32, since the processor has no bf16"
    print(f"{form}; {cpu_name()}, torch {torch.__version__}, commit {commit()}")
    return int(any(abs(difference) > options.most for *_, difference in rows))


if __name__ == "__main__":
    sys.exit(main())
