"""One cell of the smallest detector, and that members are compared on equal terms."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy import run
from benchmarks.accuracy.cells import FAMILY, Cell, member_keys
from benchmarks.accuracy.data_sets import DataSet
from benchmarks.accuracy.identity import shared_hash
from benchmarks.accuracy.matches_file import load_matches
from benchmarks.accuracy.rows import FIELDS, cell_of
from clq.data import CocoFiles
from clq.engine import CLQTrainer, build_config, setup
from clq.evaluation.report.average_precision import average_precision
from reference.tiny import CLASS_NAMES, CONFIG, KEYS, TinyData, command_line, options, parse

pytestmark = pytest.mark.usefixtures("cpu_only")


@pytest.fixture
def data(tiny_data: TinyData) -> DataSet:
    return DataSet("tiny", CONFIG, CocoFiles(*tiny_data.train), CocoFiles(*tiny_data.val))


@pytest.mark.parametrize("member", FAMILY)
def test_a_cell_becomes_a_row(data: DataSet, tmp_path: Path, member: str):
    cell = Cell("tiny", member, 5)
    folder = tmp_path / cell.folder
    row = run.run_cell(cell, data, options(KEYS), folder)
    assert set(row) == set(FIELDS)
    assert cell_of(row) == cell
    assert 0 <= row["AP"] <= row["AP50"] <= 100
    assert list(json.loads(row["class_AP"])) == CLASS_NAMES
    assert row["iterations"] == KEYS["SOLVER.MAX_ITER"]
    assert 0 < row["seconds_per_iteration"] < row["seconds"]
    assert row["hash"] == run.cell_hash(cell, data, options(KEYS))
    matches = load_matches(folder / run.MATCHES)
    ap = np.nanmean(average_precision(matches))
    # The tiny detector has no limit on the score, but one on the candidates of a level.
    assert ap == pytest.approx(row["AP_by_score"], abs=0.01)
    assert row["AP_by_true_IoU"] >= row["AP_by_score"]


def test_rows_of_one_hash_share_settings_and_data(data: DataSet, tmp_path: Path):
    keys = options(KEYS)
    same = run.cell_hash(Cell("tiny", "clq", 0), data, keys)
    for cell in (Cell("tiny", "clq", 7), Cell("tiny", "atss", 0), Cell("other name", "gfl", 1)):
        assert run.cell_hash(cell, data, keys) == same
    moved = CocoFiles(tmp_path / "train.json", tmp_path / "images")
    shutil.copytree(data.train.image_root, moved.image_root)
    content = json.loads(data.train.json_file.read_text())
    content["annotations"].reverse()
    moved.json_file.write_text(json.dumps(content, indent=1))
    assert run.cell_hash(Cell("tiny", "clq", 0), data._replace(train=moved), keys) == same

    content["annotations"][0]["bbox"][0] += 1
    moved.json_file.write_text(json.dumps(content))
    others = [
        run.cell_hash(Cell("tiny", "clq", 0), data._replace(train=moved), keys),
        run.cell_hash(Cell("tiny", "clq", 0), data._replace(val=data.train), keys),
        run.cell_hash(Cell("tiny", "clq", 0), data, [*keys, "SOLVER.BASE_LR", "0.5"]),
        run.cell_hash(Cell("tiny", "clq", 0), data, [*keys, "MODEL.CLQ.ALPHA", "0.5"]),
    ]
    assert len({same, *others}) == 5


def test_rows_of_a_gpu_share_no_hash_with_rows_of_a_processor(data: DataSet):
    keys = member_keys("clq")[::2]
    cfg = build_config(data.options(options(KEYS))).clone()
    cfg.defrost()
    hashes = []
    for device in ("cpu", "cuda", "cuda:1"):
        cfg.MODEL.DEVICE = device
        hashes.append(shared_hash(cfg, keys))
    assert hashes[0] != hashes[1] == hashes[2]


def test_views_count_where_they_are_looked_at(data: DataSet):
    cfg = build_config(data.options(options(KEYS))).clone()
    cfg.defrost()
    hashes = []
    for enabled, sizes in ((False, (64,)), (False, (80,)), (True, (64,)), (True, (80,))):
        cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES = enabled, sizes
        hashes.append(shared_hash(cfg, member_keys("clq")[::2]))
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


def test_members_see_the_same_images_in_the_same_order(tiny_data: TinyData, tmp_path: Path):
    batches = []
    for member in ("atss", "clq"):
        arguments = [*command_line(tiny_data, tmp_path / member), *map(str, member_keys(member))]
        trainer = CLQTrainer(setup(parse(arguments)))
        loader = trainer._trainer._data_loader_iter
        batches.append([record for _ in range(4) for record in next(loader)])
    for first, second in zip(*batches, strict=True):
        assert first["file_name"] == second["file_name"]
        assert torch.equal(first["image"], second["image"])  # flipped alike too
    assert len({record["file_name"] for record in batches[0]}) > 1
