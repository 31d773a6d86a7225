"""Split a data set into train.json and val.json.

Each class has the same share of its objects in val.json, as far as whole images allow, and images
that are near-identical, such as copies and neighbouring frames of a video, stay on one side. A
class of which two such groups have objects gets some on both sides. The same seed gives the same
split.

  clq split data.json images/ --val 0.2
  clq split VOCdevkit/VOC2007:trainval --val 0.2 --output splits

DATA is a COCO json, a YOLO data.yaml, or a folder in the form of YOLO or Pascal VOC; both files are
COCO json. Images stay where they are. Files that exist are not replaced.
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..data.formats.convert import split_data
from ..data.formats.source import parse_source, resolve_data
from ..engine import exit_on_user_error, print_output
from ..utils.once_parser import OnceParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    path = os.path.expanduser
    parser.add_argument("data", metavar="DATA", type=path, help="annotations, or DATA:SPLIT")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        type=path,
        nargs="?",
        default="",
        help="folder of the images (default: looked for beside a json)",
    )
    parser.add_argument(
        "--val", type=float, required=True, metavar="SHARE", help="share of val.json, such as 0.2"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="folder to write to (default: that of DATA)"
    )
    parser.add_argument(
        "--no-compare",
        dest="compare",
        action="store_false",
        help="let near-identical images be on both sides",
    )
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="nothing was written"):
        if options.seed < 0:
            raise ValueError(f"--seed is {options.seed}; it must be 0 or more.")
        files = resolve_data(options.data, options.images, role="", needs_images=False)
        source, _ = parse_source(options.data)
        beside = source if source.is_dir() else source.parent
        folder = beside if options.output is None else Path(options.output)
        compares = options.compare and (True if options.images else None)
        done = split_data(files, options.val, folder, seed=options.seed, compares=compares)
        train, val = (shlex.quote(str(file)) for file in done.files)
        root = shlex.quote(str(files.image_root)) if done.has_images else "IMAGES"
        command = f"  clq train --train {train} {root} --val {val} {root}"
        print_output(*done.text.split("\n"), "", "Written; train with", command)
