"""Entry point of the command ``clq``."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import clq

COMMANDS = {
    "train": "train a detector",
    "eval": "evaluate a checkpoint on a data set",
    "predict": "detect objects in images, videos and streams",
    "check": "tell what is wrong with a data set before training on it",
    "convert-data": "write a YOLO, Pascal VOC or COCO data set as COCO json",
    "split": "split a data set into training and evaluation data",
    "report": "show what a detector gets wrong, on one page",
    "convert": "turn trained weights into a checkpoint that alone is enough for inference",
    "export": "write a checkpoint as a file for ONNX Runtime, OpenVINO or PyTorch without CLQ",
    "benchmark": "compare the time, size and AP of checkpoints and exported files",
    "demo": "train on photographs of trees in a few minutes",
}
_MODULES = {"eval": "train", "convert-data": "convert_data"}  # those of another name


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, with the others."""
    parser = argparse.ArgumentParser(
        prog="clq",
        description="Train, evaluate and use CLQ, a one-stage object detector.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<12}  {text}" for name, text in COMMANDS.items())
        + "\n\n`clq COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"clq {clq.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="of the command")
    options = parser.parse_args(argv)
    try:
        name = _MODULES.get(options.command, options.command)
        module = importlib.import_module(f".{name}", __package__)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise
        sys.exit(f"error: {clq.NO_DETECTRON2}")
    module.main(options.arguments, prog=f"clq {options.command}")
