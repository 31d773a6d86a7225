"""Compare checkpoints and exported files: milliseconds, megabytes, memory and AP.

  clq benchmark model_final.safetensors model.onnx model.xml --val val.json images/

Each FILE runs on CPU in a process of its own, in turns with the others, on one image at a time,
from its pixels to its boxes; a checkpoint also by fast inference. Printed is a table in Markdown:
the median of the milliseconds with the lowest and the highest, the ratio to the first FILE, the
size of the file and the peak memory of its process, and with --val the AP. The images are those of
--images, or else the first of --val, or else noise of 480 x 640.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..engine import exit_on_user_error, print_output
from ..exporting.batches import find_images
from ..exporting.benchmark import compare, contenders, measure_ap, table
from ..utils.hardware import cpu_name
from ..utils.once_parser import OnceParser

_NUM_IMAGES = 8
_MOST = 1024  # rounds, or threads


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=os.path.expanduser, help="checkpoint or export"
    )
    parser.add_argument(
        "--rounds", type=int, default=20, metavar="N", help="predictions of each (default: 20)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="of each network (default: as each one chooses)"
    )
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="IMAGE", help="images or folders to time on"
    )
    parser.add_data("--val", default=[], help="data to evaluate on, as clq eval takes it")
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="nothing was written"):
        print_output(*benchmark(options).split("\n"))


def benchmark(options: argparse.Namespace) -> str:
    """Measure what a command line asks for; the table, and the machine below it.

    Raises:
        OSError: a file can't be read.
        ValueError: a file, an image or an option that can't be used.
    """
    for name, value in (("--rounds", options.rounds), ("--threads", options.threads)):
        if value is not None and not 1 <= value <= _MOST:
            raise ValueError(f"{name} is {value}; it must lie in [1, {_MOST}].")
    for file in options.files:
        if not os.path.isfile(file):
            raise ValueError(f"{file} does not exist.")
    entries = contenders(options.files, options.threads)
    rows = compare(entries, _images(options), options.rounds)
    for row in rows if options.val else []:
        row.ap = measure_ap(row.contender, options.val)
    return f"{table(rows)}\n\n{cpu_name().partition(',')[0]}, {_threads(options.threads)}"


def _threads(number: int | None) -> str:
    if number is None:
        return "threads as each one chooses"
    return "1 thread" if number == 1 else f"{number} threads"


def _images(options: argparse.Namespace) -> Sequence[Path | np.ndarray]:
    """Images to time on."""
    paths = find_images(options.images, most=_NUM_IMAGES)
    if options.val and not paths:
        paths = _images_of(options.val)
    return paths or [np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)]


def _images_of(val: Sequence[str]) -> list[Path]:
    """First images of a data set."""
    from ..data.coco.validate import load_and_validate
    from ..data.formats.source import resolve_data

    files = resolve_data(*val, role="val")
    names = load_and_validate(files.json_file, needs_labels=False).file_names
    return [Path(files.image_root, name) for name in names[:_NUM_IMAGES]]
