#!/usr/bin/env python
"""Does an image of tiles give what the tiles give, and in how much memory?

Lays the demo's photographs of 400 x 400 pixels, in all eight orientations, side by side into one of
10,000 x 10,000, runs `clq predict --tile 400 --overlap 0` on it in a process of its own, and
detects in each photograph by itself. Where a photograph's detection stays more than --margin pixels
away from its borders, the large image must have the same box and score, to the last bit, and no
other box there. The exit code is 1 if it has not, or if the process took more than --most MB.

  as committed   python benchmarks/tiling.py --weights output/demo/model_final.safetensors
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.common import commit  # noqa: E402
from clq.data.demo_trees import prepare_trees  # noqa: E402
from clq.engine import exit_on_user_error  # noqa: E402
from clq.prediction import Predictor  # noqa: E402
from clq.utils.hardware import cpu_name  # noqa: E402

TILE = 400
RESULT = ROOT / "benchmarks/results/tiling.md"
Row = tuple[float, ...]  # x, y, width, height, score, category


def read_photographs() -> list[np.ndarray]:
    """All orientations of the demo's photographs that are as large as a tile, RGB."""
    folders = {files.image_root for files in prepare_trees().values()}
    paths = sorted(path for folder in folders for path in folder.glob("*.png"))
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    square = [image for image in images if image.shape[:2] == (TILE, TILE)]
    return [
        np.rot90(side, k) for image in square for side in (image, image[::-1]) for k in range(4)
    ]


def lay_out(photographs: list[np.ndarray], count: int) -> np.ndarray:
    """Lay photographs in turn into a square of ``count`` x ``count``, row by row."""
    kinds = itertools.islice(itertools.cycle(photographs), count * count)
    rows = [np.concatenate(list(itertools.islice(kinds, count)), axis=1) for _ in range(count)]
    return np.concatenate(rows)


def predict(weights: str, image: Path, output: Path) -> tuple[list[Row], float, float]:
    """Detections of `clq predict`, the peak of its memory in MB, and its seconds."""
    command = [sys.executable, "-c", "from clq.cli.main import main; main()", "predict", str(image)]
    command += ["--weights", weights, "--tile", str(TILE), "--overlap", "0", "--no-pictures"]
    start = time.perf_counter()
    subprocess.run([*command, "--output", str(output), "--device", "cpu"], check=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    content = json.loads((output / "predictions.json").read_text())
    found = content["annotations"]
    return [(*a["bbox"], a["score"], a["category_id"]) for a in found], peak, seconds


def rows_of(predictor: Predictor, photograph: np.ndarray) -> np.ndarray:
    """Detections of a photograph by itself: x0, y0, x1, y1, score and category, fp32."""
    found = predictor.detect(np.ascontiguousarray(photograph[:, :, ::-1]))
    columns = (found.pred_boxes.tensor, found.scores[:, None], found.pred_classes[:, None] + 1)
    return np.concatenate([np.asarray(column, np.float32) for column in columns], axis=1)


def moved(rows: np.ndarray, corner: tuple[int, int]) -> list[Row]:
    """Move detections to their place in the large image, as rows of its json."""
    x, y = corner
    rows = rows + np.float32([x, y, x, y, 0, 0])
    rows[:, 2:4] -= rows[:, :2]
    return [tuple(row) for row in rows.tolist()]


def inner_rows(rows: list[Row], corner: tuple[int, int], margin: float) -> set[Row]:
    """Detections that stay more than a margin away from the borders of the tile at a corner."""
    x, y = corner
    return {
        row
        for row in rows
        if row[0] > x + margin and row[1] > y + margin
        if row[0] + row[2] < x + TILE - margin and row[1] + row[3] < y + TILE - margin
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, help="checkpoint of the demo")
    parser.add_argument("--side", type=int, default=10_000, help="pixels, a multiple of 400")
    parser.add_argument("--margin", type=float, default=10.0, help="pixels")
    parser.add_argument("--most", type=float, default=2000.0, help="MB")
    options = parser.parse_args()
    with exit_on_user_error(), tempfile.TemporaryDirectory(prefix="clq_tiling_") as scratch:
        photographs, count = read_photographs(), options.side // TILE
        image = Path(scratch, "large.png")
        Image.fromarray(lay_out(photographs, count)).save(image, compress_level=1)
        found, peak, seconds = predict(options.weights, image, Path(scratch, "found"))
        predictor = Predictor.from_checkpoint(options.weights)
        alone = [rows_of(predictor, photograph) for photograph in photographs]
    by_tile: dict[tuple[int, int], list[Row]] = {}
    for row in found:
        by_tile.setdefault((int(row[0] // TILE), int(row[1] // TILE)), []).append(row)
    num_equal = num_wrong = 0
    for i in range(count * count):
        corner = i % count * TILE, i // count * TILE
        expected = inner_rows(moved(alone[i % len(alone)], corner), corner, options.margin)
        actual = inner_rows(by_tile.get((i % count, i // count), []), corner, options.margin)
        num_equal += len(expected & actual)
        num_wrong += len(expected ^ actual)
    lines = [
        "# An image of tiles",
        "",
        f"`python benchmarks/tiling.py --weights ...`, {date.today()}, commit {commit()}, "
        f"{cpu_name()}",
        "",
        f"- image: {options.side} x {options.side}, {count * count} tiles",
        f"- detections: {len(found)}",
        f"- away from seams: {num_equal} equal to the last bit, {num_wrong} not",
        f"- peak memory of `clq predict`: {peak:.0f} MB",
        f"- time: {seconds:.0f} s",
    ]
    print("\n".join(lines))
    if num_wrong or not num_equal or peak > options.most:
        sys.exit(1)
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
