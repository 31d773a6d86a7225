"""One cell of the smallest detector, and that members are compared on equal terms."""

import json
import math
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.accuracy import run
from benchmarks.accuracy.cells import FAMILY, Cell, DataSet, member_keys
from benchmarks.accuracy.rows import FIELDS
from clq.data import CocoFiles
from clq.engine import CLQTrainer, setup
from reference.tiny import CLASS_NAMES, CONFIG, KEYS, TinyData, command_line, options, parse

pytestmark = pytest.mark.usefixtures("cpu_only")


@pytest.mark.parametrize("member", FAMILY)
def test_a_cell_becomes_a_row(tiny_data: TinyData, tmp_path: Path, member: str):
    cell = Cell("tiny", member, 5)
    pairs = (CocoFiles(*tiny_data.train), CocoFiles(*tiny_data.val))
    data = DataSet("tiny", CONFIG, *pairs)
    row = run.run_cell(cell, data, tmp_path / cell.folder, options(KEYS))
    assert {*row, "commit"} == set(FIELDS)
    assert Cell(row["data"], row["member"], row["seed"]) == cell
    assert 0 <= row["AP"] <= row["AP50"] <= 100
    assert list(json.loads(row["class_AP"])) == CLASS_NAMES
    assert math.isnan(row["rank_correlation"]) or -1 <= row["rank_correlation"] <= 1
    assert row["iterations"] == KEYS["SOLVER.MAX_ITER"]
    assert 0 < row["seconds_per_iteration"] < row["seconds"]
    truth, detections = run.read_detections(tmp_path / cell.folder)
    assert truth == tiny_data.val.content
    assert {found["image_id"] for found in detections} <= {image["id"] for image in truth["images"]}


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


def test_a_function_runs_in_a_process_of_its_own():
    assert run.run_apart(math.hypot, 3, 4) == 5
    with pytest.raises(ValueError):
        run.run_apart(math.sqrt, -1)


def test_commit_tells_when_the_code_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert run.commit() == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for name in ("configs/a.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = run.commit()
    assert len(clean) >= 7 and "-" not in clean
    (tmp_path / "README.md").write_text("two")
    assert run.commit() == clean
    (tmp_path / "configs/a.yaml").write_text("two")
    assert run.commit() == f"{clean}-dirty"
