"""The command that overfits, without its training."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import overfit
from benchmarks.accuracy.cells import Cell
from benchmarks.common import read_rows
from clq.engine import RunOptions, build_config


def test_four_tiles_with_some_trees_of_some_size(tmp_path: Path):
    tiles = overfit.few_tiles(tmp_path)
    content = json.loads(tiles.json_file.read_text())
    counts = Counter(annotation["image_id"] for annotation in content["annotations"])
    assert set(counts) == {image["id"] for image in content["images"]}
    assert len(counts) == 4 and all(10 <= count < 20 for count in counts.values())
    assert min(annotation["area"] for annotation in content["annotations"]) >= 24**2
    assert all((tiles.image_root / image["file_name"]).is_file() for image in content["images"])


def test_settings_change_nothing_but_the_size_of_an_image(cpu_only: None):
    keys = ["DATASETS.TRAIN", "('clq_trees_train',)", "DATASETS.TEST", "('clq_trees_train',)"]
    keys += ["MODEL.CLQ.NUM_CLASSES", "1"]
    options = build_config(RunOptions(config_file=str(overfit.SETTINGS), opts=keys)).INPUT
    assert options.RANDOM_FLIP == "none" and not options.CROP.ENABLED
    assert not options.VERTICAL_FLIP and not options.QUARTER_TURNS and options.COLOR_JITTER == 0
    assert options.MIN_SIZE_TRAIN == (options.MIN_SIZE_TEST,)


def test_exit_code_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    aps = {"gfl": 93.0, "clq": 89.9, "atss": 95.0}

    def run(function: Any, cell: Cell, *rest: Any) -> dict[str, Any]:
        values = dict.fromkeys(overfit.FIELDS, 1.0)
        return {**values, **cell._asdict(), "AP": aps[cell.member]}

    monkeypatch.setattr(overfit, "run_apart", run)
    results = tmp_path / "overfit.csv"
    common = ["--output", str(tmp_path), "--results", str(results)]
    assert overfit.main(["--members", "gfl", "clq", *common]) == 1
    aps["clq"] = 90.0
    assert overfit.main(["--members", "clq", "atss", *common]) == 0
    rows = {row["member"]: float(row["AP"]) for row in read_rows(results)}
    assert rows == {"gfl": 93.0, "clq": 90.0, "atss": 95.0}
