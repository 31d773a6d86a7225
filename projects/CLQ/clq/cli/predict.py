"""Detect objects in images, videos and streams, from a checkpoint or an exported file alone.

  clq predict --weights output/model_final.safetensors photos/ clip.mp4

INPUT is an image, a video, or a folder, which is searched with all below it for both; a pattern in
quotes, such as 'photos/*.jpg'; the index of a camera, such as 0; or an address of http, https, rtsp
or rtsps. A camera or a live stream is read until Ctrl-C, and all is written then. The checkpoint
must hold its configuration, as model_final.safetensors of a training does; it tells the size that
images are resized to, the order of their channels and the names of the classes. Written are, to the
folder of --output:

  predictions.json   all boxes as COCO json: x, y, width, height in pixels of the upright image
  a picture of each image, and an .mp4 of each video, with boxes, class names and joint scores

Inputs keep their places below the folder that they all share, so that two of the same name do not
meet. All are looked at before the work starts; one that then can't be decoded ends it, unless
--skip-unreadable is given. docs/predict.md says more.
"""

import argparse
from collections.abc import Sequence

from ..engine import exit_on_user_error, print_output
from ..prediction import ViewOptions, predict_files
from ..runtime.options import add_view_options
from ..utils.once_parser import OnceParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    _add_general(parser)
    add_view_options(parser)
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="predictions.json was not written"):
        done = predict_files(
            options.weights,
            options.inputs,
            options.output,
            score_threshold=options.score_threshold,
            device=options.device,
            fast=options.fast,
            skip_unreadable=options.skip_unreadable,
            pictures=options.pictures,
            ids_from=options.ids_from,
            show=options.show,
            views=ViewOptions.from_arguments(options),
        )
        print_output(*done)


def _add_general(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image, video, folder or stream")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help="checkpoint, .safetensors or .pth, or a file of clq export",
    )
    parser.add_argument(
        "--output", default="predictions", metavar="DIR", help="folder (default: predictions)"
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.3,
        metavar="T",
        help="lowest score in the pictures (default: 0.3); the json has all boxes above the "
        "checkpoint's own MODEL.CLQ.SCORE_THRESH_TEST, and below that there are none",
    )
    parser.add_argument(
        "--device", metavar="D", help="such as cpu or cuda:1 (default: cuda where there is one)"
    )
    parser.add_argument(
        "--fast", action="store_true", help="on CPU: in bf16 where the processor has it"
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="name and count files that can't be decoded"
    )
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false", help="write predictions.json alone"
    )
    parser.add_argument(
        "--ids-from",
        metavar="DATA",
        help="COCO json, or other data, of all inputs: take its ids of categories and images, by "
        "file name, and write coco_instances_results.json too, for pycocotools or a leaderboard",
    )
    parser.add_argument(
        "--show", action="store_true", help="show the pictures in a window; q or Esc ends the run"
    )
