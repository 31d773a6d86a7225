#!/usr/bin/env python
"""Can every member of the family learn a few images by heart?

Trains each member on four tiles of the demo's trees, without any augmentation, and evaluates it
on the same four: the first tiles with 10 to 19 trees of which none is below 24 pixels. A detector
whose parts fit together (matching, box coding, losses, decoding, scores) reaches AP 90 or more
there; the exit code is 1 if one does not. Takes some minutes for each member on two processor
cores. The table is printed; the results of the members that ran replace theirs in --results.

  all members    python benchmarks/overfit.py
  two of them    python benchmarks/overfit.py --members clq gfl
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.accuracy.cells import FAMILY, MEMBERS, Cell  # noqa: E402
from benchmarks.accuracy.data_sets import DataSet  # noqa: E402
from benchmarks.accuracy.run import run_cell  # noqa: E402
from benchmarks.common import read_rows, run_apart, write_rows  # noqa: E402
from clq.data import CocoFiles, prepare_trees  # noqa: E402
from clq.engine import exit_on_user_error  # noqa: E402
from clq.utils.atomic_write import write_atomically  # noqa: E402

SETTINGS = Path(__file__).parent / "overfit.yaml"
GOAL = 90.0  # AP in percent
NUM_TILES = 4
OBJECTS = range(10, 20)  # on a tile
MIN_SIDE = 24  # of the smallest tree, in pixels: the root of its area
FIELDS = (
    *("member", "seed", "AP", "AP50", "AP75"),
    *("iterations", "seconds", "cpu_seconds", "machine", "torch", "commit", "date"),
)
RESULTS = Path("benchmarks/results/overfit.csv")


def few_tiles(folder: Path) -> CocoFiles:
    """The first training tiles with a number of trees in ``OBJECTS``, none below ``MIN_SIDE``.

    Args:
        folder: of the json to write; the images stay where they are.

    Raises:
        ValueError: there are fewer than ``NUM_TILES``.
    """
    train = prepare_trees()["train"]
    content = json.loads(train.json_file.read_text())
    areas = defaultdict(list)
    for annotation in content["annotations"]:
        areas[annotation["image_id"]].append(annotation["area"])
    fitting = [i for i, a in areas.items() if len(a) in OBJECTS and min(a) >= MIN_SIDE**2]
    ids = set(sorted(fitting)[:NUM_TILES])
    if len(ids) < NUM_TILES:
        raise ValueError(f"{train.json_file} has only {len(ids)} tiles that fit, not {NUM_TILES}.")
    images = [image for image in content["images"] if image["id"] in ids]
    annotations = [anno for anno in content["annotations"] if anno["image_id"] in ids]
    chosen = {**content, "images": images, "annotations": annotations}
    write_atomically(folder / "tiles.json", json.dumps(chosen).encode())
    return CocoFiles(folder / "tiles.json", train.image_root)


def overfit(member: str, seed: int, output: Path, opts: Sequence[str]) -> dict[str, Any]:
    """The row of results of one member."""
    tiles = few_tiles(output)
    data = DataSet("tiles", SETTINGS, tiles, tiles)
    cell = Cell(data.name, member, seed)
    row = run_apart(run_cell, cell, data, opts, output / cell.folder)
    print(f"{member}: AP {row['AP']:.1f}, {row['seconds']:.0f} s", flush=True)
    return {field: row[field] for field in FIELDS}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    members = list(FAMILY)
    parser.add_argument("--members", nargs="+", choices=MEMBERS, default=members, help="to train")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    folder = Path("output/overfit")
    parser.add_argument("--output", type=Path, default=folder, help=f"default: {folder}")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="configuration, as SEED 9"
    )
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    with exit_on_user_error(hint="name the members that are left by --members"):
        for member in options.members:
            rows.append(overfit(member, options.seed, options.output, options.opts))
            others = [row for row in read_rows(options.results) if row["member"] != member]
            write_rows(options.results, FIELDS, [*others, rows[-1]])
    print(tabulate(rows, headers="keys", tablefmt="github"))
    return int(any(row["AP"] < GOAL for row in rows))


if __name__ == "__main__":
    sys.exit(main())
