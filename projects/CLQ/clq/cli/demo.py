"""Train CLQ on aerial photographs of trees in a few minutes, and show what it learned.

Downloads the photographs and ImageNet weights (about 30 MB, kept in $CLQ_CACHE), trains, evaluates
on two test sets, and writes to the output folder:

  results.json       COCO AP on both test sets, in percent, and what the training took
  training.png       losses and test AP over the iterations
  detections.png     test tiles: ground truth beside detections with their joint score
  report/index.html  what the detector gets wrong, on a page for a browser
  model_final.pth    the weights, for clq eval

The same training and report alone:
  clq train --config clq_trees
"""

from collections.abc import Sequence

from ..demo.run import run_demo
from ..engine import RunOptions, exit_on_user_error
from ..utils.once_parser import OnceParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--output", default="output/demo", help="folder (default: output/demo)")
    parser.add_argument(
        "opts", nargs="*", help="configuration keys and values, as SOLVER.MAX_ITER 9"
    )
    options = parser.parse_args(argv)
    opts = ["SEED", str(options.seed), *options.opts]
    with exit_on_user_error(hint="the demo starts over"):
        run_demo(RunOptions(config_file="clq_trees", output_dir=options.output, opts=opts))
