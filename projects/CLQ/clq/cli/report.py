"""Show what a detector gets wrong, on one page that a browser opens.

  clq report output                                          a training run, on its own test data
  clq report model_final.safetensors --val val.json images/  any weights on any data
  clq report output other_output                             two runs side by side

Written are index.html, which holds all that it shows, report.json with the same facts, and the
figures. A training run and clq eval write the same by themselves (TEST.REPORT). The detections in
a run's folder serve if they are of its final weights and of the data; otherwise the weights are
evaluated first. docs/report.md tells how to read each figure.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ..engine import exit_on_user_error, print_output
from ..engine.evaluated_run import find_evaluation
from ..utils.once_parser import OnceParser


def report(options: argparse.Namespace) -> list[Path]:
    """Write the report that a command line asks for, and return its pages.

    Raises:
        OSError: a file can't be read or written.
        ValueError: a source can't be evaluated, or its data has no annotations.
    """
    from ..evaluation.report.comparison import report_comparison
    from ..evaluation.report.run_report import report_run
    from ..evaluation.report.runs import load_runs

    is_run = options.second is None and Path(options.first).is_dir()
    folder = options.output or Path(options.first if is_run else "", "report")
    cfg = find_evaluation(options.first, options.val, folder / "evaluation", options.opts)
    if options.second is None:
        metrics_file = Path(options.first, "metrics.json")
        known = metrics_file if metrics_file.is_file() else None
        pages = report_run(cfg, cfg.MODEL.WEIGHTS, folder, metrics_file=known)
    else:
        first = load_runs(cfg, cfg.MODEL.WEIGHTS)  # before another run's data takes its name
        cfg = find_evaluation(options.second, options.val, folder / "evaluation_b", options.opts)
        second = load_runs(cfg, cfg.MODEL.WEIGHTS)
        pages = [report_comparison(a, b, folder) for a, b in zip(first[:1], second)]
    if not pages:
        raise ValueError("the data has no annotations, so that there is nothing to compare with.")
    return pages


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    parser.add_argument(
        "first",
        type=os.path.expanduser,
        metavar="RUN_OR_WEIGHTS",
        help="folder of a training run, or checkpoint",
    )
    parser.add_argument(
        "second", type=os.path.expanduser, nargs="?", metavar="B", help="another, to compare with"
    )
    parser.add_data(
        "--val",
        type=os.path.expanduser,
        default=[],
        help="data, as clq eval takes it, named last (default: what a run was evaluated on)",
    )
    parser.add_argument(
        "--output",
        type=lambda text: Path(text).expanduser(),
        metavar="DIR",
        help="folder of the report (default: report in the run's folder, else in this one)",
    )
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="configuration of the evaluation, at the end",
    )
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="the report was not written"):
        print_output(*map(str, report(options)))
