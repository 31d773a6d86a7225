#!/usr/bin/env python
"""Train CLQ on aerial photographs of trees in a few minutes, and show what it learned.

Downloads the photographs and ImageNet weights (about 30 MB, kept in $CLQ_CACHE), trains, evaluates
on two test sets, and writes to the output folder:

  results.json     COCO AP on both test sets, in percent, and what the training took
  training.png     losses and test AP over the iterations
  detections.png   test tiles: ground truth beside detections with their joint score
  model_final.pth  the weights, for train_net.py --eval-only

The same training, without the pictures:
  python train_net.py --config-file configs/Demo/clq_trees.yaml
"""

import argparse
from pathlib import Path

from clq.demo.run import run_demo
from clq.engine import clq_argument_parser, exit_on_user_error

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "Demo" / "clq_trees.yaml"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--output", default="output/demo", help="folder (default: output/demo)")
    parser.add_argument(
        "opts", nargs="*", help="configuration keys and values, as SOLVER.MAX_ITER 9"
    )
    options = parser.parse_args(argv)
    opts = ["SEED", str(options.seed), "OUTPUT_DIR", options.output, *options.opts]
    with exit_on_user_error(hint="make demo starts over"):
        run_demo(clq_argument_parser().parse_args(["--config-file", str(CONFIG), *opts]))


if __name__ == "__main__":
    main()
