"""The smallest data set and detector that still train, and the command line that uses them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clq.engine import RunOptions, clq_argument_parser

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "Base-CLQ.yaml"
CATEGORIES = [  # their ids have gaps and stand in no order
    {"id": 90, "name": "dot"},
    {"id": 3, "name": "bar"},
    {"id": 17, "name": "block"},
]
CLASS_NAMES = ["bar", "block", "dot"]  # by rising id, the order of the class indices
_SHAPES = {90: (12, 12), 3: (40, 14), 17: (34, 34)}  # width and height in pixels
_COLORS = {90: (250, 240, 30), 3: (40, 60, 250), 17: (230, 30, 40)}

# A ResNet-50 of a few channels, trained on images as they are. With 4 channels and channels-last,
# oneDNN's backward pass corrupts the heap from images of 400 pixels on.
MODEL_KEYS: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.CLQ.NUM_CONVS": 1,
    "MODEL.CLQ.NUM_GROUPS": 2,
    "MODEL.CLQ.OFFSET_GROUPS": 2,
    # An almost untrained model detects something too, so that comparisons compare something.
    "MODEL.CLQ.SCORE_THRESH_TEST": 0.0,
    "MODEL.CLQ.TOPK_CANDIDATES_TEST": 20,
}
RUN_KEYS: dict[str, Any] = {
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.002,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.STEPS": "(1000,)",
    "SOLVER.MAX_ITER": 4,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": 64,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.REPORT": False,  # it takes longer than such a run
    "SEED": 3,
}
KEYS = {**MODEL_KEYS, **RUN_KEYS}


class Pair(NamedTuple):
    """A COCO json and its image folder, as ``--train`` and ``--val`` take them."""

    json_file: Path
    images: Path

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.json_file.read_text())


class TinyData(NamedTuple):
    train: Pair
    val: Pair


def write_pair(
    folder: Path,
    name: str,
    *,
    num_images: int,
    seed: int,
    sizes: Sequence[tuple[int, int]] = ((64, 96), (80, 64)),
) -> Pair:
    """Write images of coloured rectangles and their json; the last of several is empty.

    Args:
        folder: of the json, and of the image folder beside it.
        name: of both.
        num_images: of heights and widths that ``sizes`` gives in turn, in pixels.
        seed: of the places of the rectangles.
        sizes: height and width each.
    """
    pair = Pair(folder / f"{name}.json", folder / name)
    pair.images.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    for i in range(num_images):
        height, width = sizes[i % len(sizes)]
        pixels = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
        image = {"id": 10 + 7 * i, "file_name": f"{i}.png", "height": height, "width": width}
        content["images"].append(image)
        is_empty = i > 0 and i == num_images - 1
        for category in [] if is_empty else CATEGORIES:
            w, h = _SHAPES[category["id"]]
            x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            pixels[y : y + h, x : x + w] = _COLORS[category["id"]]
            annotation = {
                "id": len(content["annotations"]) + 1,
                "image_id": image["id"],
                "category_id": category["id"],
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": 0,
            }
            content["annotations"].append(annotation)
        Image.fromarray(pixels).save(pair.images / image["file_name"])
    pair.json_file.write_text(json.dumps(content))
    return pair


def options(keys: dict[str, Any]) -> list[str]:
    """Configuration keys as the end of a command line."""
    return [str(part) for item in keys.items() for part in item]


def command_line(
    data: TinyData | None, output: Path, *flags: str, keys: dict[str, Any] | None = None
) -> list[str]:
    """Arguments of train_net.py for the tiny detector, where ``keys`` go before the defaults.

    Args:
        data: given by --train and --val, unless None.
        output: OUTPUT_DIR.
        flags: such as --resume.
        keys: more configuration keys, or other values for those of ``KEYS``.
    """
    pairs = ["--train", *map(str, data.train), "--val", *map(str, data.val)] if data else []
    all_keys = {**KEYS, "OUTPUT_DIR": output, **(keys or {})}
    return ["--config-file", str(CONFIG), *pairs, *flags, *options(all_keys)]


def parse(arguments: list[str]) -> RunOptions:
    return clq_argument_parser().parse_args(arguments)


def process_environment() -> dict[str, str]:
    """For a command that must run on CPU, in one thread, and find the package."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def run_script(script: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess:
    """Run a script of the repository as a user would, and return what it printed."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=ROOT,
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start_training(
    arguments: list[str],
    *,
    launcher: Sequence[str] = (),
    variables: dict[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen:
    """Start train_net.py as a user would; what it prints on standard error can be read.

    Args:
        arguments: of train_net.py.
        launcher: arguments of Python that go before, for a program that starts others.
        variables: of the environment, beside the usual.
        options: of ``subprocess.Popen``.
    """
    return subprocess.Popen(
        [sys.executable, *launcher, "train_net.py", *arguments],
        cwd=ROOT,
        env={**process_environment(), **(variables or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **options,
    )


def free_url() -> str:
    """An address at which the processes of a test can meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"
