"""Report errors and warnings of a data set before training on it.

Checks every entry of the annotations, every image file (decoded completely, with its EXIF
orientation, against the width and height that the annotations state), and the object sizes against
the strides of the detector at its input size.

An ERROR prevents training: correct the entry, or remove it. A WARNING does not. The exit code is 1
if there is an error, else 0.

One data set, and with it the one it will be evaluated on:
  clq check train.json images/
  clq check train.json images/ --val val.json images/
A YOLO data.yaml or folder and a Pascal VOC folder tell where their images are:
  clq check data.yaml --val data.yaml
For the strides and image sizes of a config of yours, reading 500 images of a large data set:
  clq check train.json images/ --config mine.yaml --images 500
For a program, one json object on standard output:
  clq check train.json images/ --json | jq .faults
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial

from ..config import get_clq_cfg
from ..config.errors import friendly_config_errors
from ..config.read_yaml import merge_config_file
from ..data.formats.source import resolve_data
from ..data_report import DataReport, report_data
from ..data_report.anchor_coverage import DetectorScale
from ..data_report.report import ReportScope
from ..data_report.report_text import as_json, as_text
from ..engine import exit_on_user_error, print_output
from ..engine.run_config.merge import find_config
from ..utils.once_parser import OnceParser


def check(options: argparse.Namespace) -> list[DataReport]:
    """Report on the training data and, if given, the evaluation data."""
    cfg = get_clq_cfg()
    file = find_config(options.config_file)
    merge_config_file(cfg, file)
    with friendly_config_errors(cfg, file=file):
        scale = DetectorScale.from_config(cfg)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False  # as --train and --val set it
    report = partial(report_data, cfg=cfg, scale=scale, scope=ReportScope(options.images))
    reports = [report(resolve_data(options.data, options.image_root))]
    if options.val:
        known = [] if reports[0].errors else reports[0].class_names
        val = resolve_data(*options.val, role="val")
        paths = reports[0].image_paths
        reports.append(report(val, for_training=False, train_classes=known, train_paths=paths))
    return reports


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number of images, not {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    path = os.path.expanduser
    parser.add_argument("data", metavar="DATA", type=path, help="annotations to train on")
    parser.add_argument(
        "image_root",
        nargs="?",
        default="",
        metavar="IMAGES",
        type=path,
        help="folder that their file names start from; a JSON file needs it",
    )
    parser.add_data("--val", type=path, help="data to evaluate on, behind DATA")
    parser.add_argument(
        *("--config", "--config-file"),
        dest="config_file",
        metavar="NAME|FILE",
        default="Base-CLQ",
        help="a config that CLQ ships, or a yaml file (default: Base-CLQ)",
    )
    parser.add_argument("--json", action="store_true", help="print json instead of text")
    parser.add_argument(
        "--images", type=_count, metavar="N", help="read N evenly spaced images (default: all)"
    )
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="nothing was changed"):
        reports = check(options)
        if options.json:
            print_output(json.dumps(as_json(reports), allow_nan=False))
        else:
            print_output(*"\n\n".join(map(as_text, reports)).split("\n"))
    sys.exit(1 if any(report.errors for report in reports) else 0)
