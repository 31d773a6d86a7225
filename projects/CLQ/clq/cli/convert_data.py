"""Write a YOLO, Pascal VOC or COCO data set as one COCO json.

DATA is a YOLO data.yaml, a YOLO folder, a Pascal VOC folder, or a COCO json, which is normalized:
numbers that were written as texts become numbers. Of several splits, name one:
  clq convert-data VOCdevkit/VOC2007:trainval trainval.json
  clq convert-data data.yaml:val val.json

`clq train` and the other commands read all of these formats themselves; a json is for other tools,
or to correct labels by hand. Images stay where they are. An OUT.json that exists is not replaced.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ..data.formats.convert import convert_data
from ..data.formats.source import resolve_data
from ..engine import exit_on_user_error, print_output
from ..utils.once_parser import OnceParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    path = os.path.expanduser
    parser.add_argument("data", metavar="DATA", type=path, help="annotations, or DATA:SPLIT")
    parser.add_argument(
        "images", metavar="IMAGES", type=path, nargs="?", default="", help="folder of the images"
    )
    parser.add_argument("out", metavar="OUT.json", type=path, help="file to write")
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="nothing was written"):
        files = resolve_data(options.data, options.images, role="", needs_images=False)
        print_output(*convert_data(files, Path(options.out)))
