"""Train and compare the members of the family on real data, cell by cell.

A cell is one data set, one member of the family and one seed. The members are ATSS, ATSS + CLQ,
GFL and CLQ, ablations of CLQ, and CLQ with further augmentations. On a data set they share
backbone, schedule, flips, sizes and the order of the images. Each finished cell becomes a row of
--results, so that the same command goes on where it was stopped. At the end, or with --report
alone, the tables and the figures are written. See docs/accuracy.md.

  everything      python -m benchmarks.accuracy --name blood_cells \\
                      --train train.json images/ --val val.json images/
  tree crowns     python -m benchmarks.accuracy --data trees
  two cells       python -m benchmarks.accuracy --data trees --members atss clq --seeds 0
  do they repeat? ... --again    (prints them beside their rows, which stay as they are)
  other settings  ... --hold-out --results mine.csv --opts SOLVER.BASE_LR 0.002
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clq.data import CocoFiles
from clq.engine import exit_on_user_error

from .cells import BLOOD_CELLS, MEMBERS, TREES, study_cells
from .data_sets import SETTINGS, DataSet, hold_out, trees
from .report import write_report
from .study import Study

RESULTS = Path("benchmarks/results/accuracy.csv")
FIGURES = Path("docs")  # of these results; others have theirs beside them


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code is 1 if a cell failed."""
    options = _parser().parse_args(argv)
    is_ours = options.results == RESULTS
    options.output = options.output or Path("output") / options.results.stem
    failed = 0
    with exit_on_user_error(hint="the same command goes on with the cells that have no row"):
        if not options.report:
            failed = _run(options, is_ours)
        if not options.again:
            for path in write_report(options.results, FIGURES if is_ours else None):
                print(path)
    return int(failed > 0)


def _run(options: argparse.Namespace, is_ours: bool) -> int:
    """Run the cells that are asked for; returns the number of those that failed.

    Raises:
        ValueError: a data set without its files, or settings that are not the study's.
    """
    if is_ours and (options.opts or options.hold_out):
        raise ValueError(
            "--opts and --hold-out are trials, whose rows need --results of their own."
        )
    data_sets = _data_sets(options)
    if options.hold_out:
        held_out = (hold_out(data, options.output) for data in data_sets.values())
        data_sets = {data.name: data for data in held_out}
    study = Study(
        data_sets,
        results=options.results,
        output=options.output,
        opts=[*options.opts, *(["MODEL.DEVICE", options.device] if options.device else [])],
        parallel=options.parallel,
        threads=options.threads,
    )
    cells = study_cells(data_sets, options.members, options.seeds)
    return (study.run_again if options.again else study.run_missing)(cells)


def _data_sets(options: argparse.Namespace) -> dict[str, DataSet]:
    """The data sets to run, by name, in the order of the study."""
    given = {}
    if options.train or options.val:
        if not options.train or not options.val or options.name in (None, TREES):
            raise ValueError(
                f"give --train, --val and --name, as --name {BLOOD_CELLS}; a name stands for the "
                f"same files in all rows of the results, and {TREES} is taken."
            )
        files = CocoFiles(*options.train), CocoFiles(*options.val)
        given[options.name] = DataSet(options.name, SETTINGS / "blood_cells.yaml", *files)
    names = options.data or [*given, TREES]
    for name in names:
        if name not in (*given, TREES):
            raise ValueError(f"the data set '{name}' needs --train, --val and --name {name}.")
    return {name: given[name] if name in given else trees() for name in names}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pair: dict[str, Any] = {"nargs": 2, "metavar": ("JSON", "IMAGES"), "type": Path}
    parser.add_argument("--train", **pair, help="COCO json and image folder to train on")
    parser.add_argument("--val", **pair, help="COCO json and image folder to evaluate on")
    parser.add_argument("--name", help=f"of that data set in the results, as {BLOOD_CELLS}")
    parser.add_argument(
        "--data", nargs="+", help=f"data sets to run (default: {TREES}, and --name if given)"
    )
    parser.add_argument(
        "--members", nargs="+", choices=MEMBERS, default=list(MEMBERS), help="default: all"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="default: 0 to 4, of variants of CLQ 0 to 2"
    )
    parser.add_argument("--again", action="store_true", help="run cells that have a row, compare")
    parser.add_argument("--report", action="store_true", help="run nothing, write the report")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    parser.add_argument("--output", type=Path, help="of the runs (default: output/ and its name)")
    parser.add_argument("--device", help="cpu or cuda (default: CUDA where there is one)")
    parser.add_argument("--parallel", type=int, default=2, help="cells side by side (default: 2)")
    parser.add_argument("--threads", type=int, default=1, help="of each cell (default: 1)")
    parser.add_argument(
        "--hold-out",
        action="store_true",
        help="evaluate on a fifth of the training files, train on the others, to choose settings",
    )
    parser.add_argument(
        "--opts",
        nargs="+",
        default=[],
        metavar="KEY VALUE",
        help="configuration of all cells, as SOLVER.MAX_ITER 9; needs a --results of its own",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
