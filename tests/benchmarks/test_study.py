"""The loop over cells: what is skipped, what is added, and what a failure does."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy import study
from benchmarks.accuracy.cells import (
    ABLATIONS,
    AUGMENTED,
    FAMILY,
    MEMBERS,
    Cell,
    member_keys,
    study_cells,
)
from benchmarks.accuracy.data_sets import SETTINGS, DataSet, hold_out
from benchmarks.accuracy.matches_file import save_matches
from benchmarks.accuracy.rows import FIELDS, add_result, cell_of, matches_file
from benchmarks.accuracy.run import MATCHES
from benchmarks.common import read_rows
from clq.data import CocoFiles
from clq.evaluation.report.matches import match_detections
from reference.made_up_detections import detections, truth

FILES = CocoFiles(Path("a.json"), Path("images"))
DATA = {
    name: DataSet(name, SETTINGS / "trees.yaml", FILES, FILES) for name in ("blood_cells", "trees")
}
CELLS = study_cells(DATA, FAMILY, seeds=(0, 1))
FOUND = match_detections(truth(), detections(9))  # here: it redirects what all threads print


def row(cell: Cell, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(FIELDS, 1.5), **cell._asdict(), "hash": "abc", **values}


def leave_matches(folder: Path) -> Path:
    save_matches(folder / MATCHES, FOUND)
    return folder / MATCHES


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Replaces training: every cell gives a row at once, but GFL fails."""
    cells: list[Cell] = []

    def run(
        function: Callable,
        cell: Cell,
        data: DataSet,
        opts: Sequence[str],
        folder: Path | None = None,
        threads: int = 1,
    ) -> Any:
        shared = "other" if opts else "abc"
        if folder is None:
            return shared
        cells.append(cell)
        if cell.member == "gfl":
            raise ValueError("it has\nno luck")
        leave_matches(folder)
        return row(cell, AP=30 + cell.seed, hash=shared)

    monkeypatch.setattr(study, "run_apart", run)
    return cells


@pytest.fixture
def small_study(tmp_path: Path) -> study.Study:
    return study.Study(DATA, results=tmp_path / "new" / "accuracy.csv", output=tmp_path / "runs")


def test_the_family_comes_first_seed_by_seed_and_variants_of_clq_last():
    cells = study_cells(["blood_cells", "trees"])
    size = 5 * len(FAMILY)
    pairs = [(member, seed) for seed in range(5) for member in FAMILY]
    assert [cell[1:] for cell in cells[:size]] == pairs
    variants = [*ABLATIONS, *AUGMENTED]
    assert len(cells) == len(set(cells)) == 2 * 5 * len(FAMILY) + 3 * len(variants)
    assert {cell.data for cell in cells[:size]} == {"blood_cells"}
    assert {cell.data for cell in cells[size : 2 * size]} == {"trees"}
    assert {cell.data for cell in cells[2 * size :]} == {"blood_cells"}
    assert list(dict.fromkeys(cell.member for cell in cells[2 * size :])) == variants


def test_finished_cells_are_rows_and_run_once(ran: list[Cell], small_study: study.Study):
    results = small_study.results
    some = [cell for cell in CELLS if cell.member != "gfl"]
    assert small_study.run_missing(some[:3]) == 0
    assert [cell_of(r) for r in read_rows(results)] == some[:3]
    assert small_study.run_missing(some) == 0
    assert ran == some
    assert [cell_of(r) for r in read_rows(results)] == some
    assert small_study.run_missing(some) == 0
    assert ran == some
    assert sorted(path.name for path in results.parent.iterdir()) == ["accuracy", "accuracy.csv"]
    assert all(matches_file(results, r).is_file() for r in read_rows(results))


def test_other_settings_run_anew(ran: list[Cell], small_study: study.Study):
    assert small_study.run_missing(CELLS[:1]) == 0
    other = study.Study(**{**vars(small_study), "opts": ["SOLVER.MAX_ITER", "3"]})
    assert other.run_missing(CELLS[:1]) == 0
    assert ran == [CELLS[0], CELLS[0]]
    assert [r["hash"] for r in read_rows(small_study.results)] == ["abc", "other"]


def test_cells_side_by_side_are_all_run(ran: list[Cell], small_study: study.Study):
    cells = [cell for cell in CELLS if cell.member != "gfl"]
    wide = study.Study(**{**vars(small_study), "parallel": 3})
    assert wide.run_missing(cells) == 0
    assert sorted(ran) == sorted(map(cell_of, read_rows(wide.results))) == sorted(cells)


def test_a_failure_is_one_line_without_a_row(
    ran: list[Cell], small_study: study.Study, capsys: pytest.CaptureFixture[str]
):
    assert small_study.run_missing(CELLS) == 4 and len(ran) == len(CELLS)
    rows = read_rows(small_study.results)
    assert {cell.member for cell in map(cell_of, rows)} == set(FAMILY) - {"gfl"}
    lines = [line for line in capsys.readouterr().out.splitlines() if "gfl" in line]
    assert lines[0].endswith("] blood_cells gfl seed 0 failed: it has no luck")
    assert len(lines) == 4


def test_again_compares_and_leaves_the_csv_alone(
    ran: list[Cell],
    small_study: study.Study,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    results = small_study.results
    cells = [Cell("trees", "clq", seed) for seed in (0, 1)]
    for cell in cells:
        add_result(results, row(cell, AP=28 + 5 * cell.seed), leave_matches(tmp_path))
    before = results.read_bytes()
    assert small_study.run_again([*cells, Cell("trees", "atss", 0)]) == 0
    assert ran == cells and results.read_bytes() == before
    printed = capsys.readouterr().out
    assert "AP 30.00 now, 28.00 in" in printed and "within the spread" in printed
    assert "28.00 to 33.00" in printed and "have none: trees atss seed 0" in printed


def test_a_result_outside_the_spread_is_told_and_counted(
    ran: list[Cell],
    small_study: study.Study,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    add_result(small_study.results, row(Cell("trees", "clq", 0), AP=40), leave_matches(tmp_path))
    assert small_study.run_again([Cell("trees", "clq", 0)]) == 1
    assert "OUTSIDE" in capsys.readouterr().out


def test_the_spread_is_three_deviations_around_the_mean():
    assert study.is_within_spread(17.0, [10.0, 12.0, 14.0])  # 12 +- 3 * 2
    assert not study.is_within_spread(18.1, [10.0, 12.0, 14.0])
    assert study.is_within_spread(12.0, [12.0]) and not study.is_within_spread(12.1, [12.0])


def test_a_cell_has_one_row_of_a_hash(tmp_path: Path):
    matches = leave_matches(tmp_path)
    add_result(tmp_path / "a.csv", row(CELLS[0]), matches)
    add_result(tmp_path / "a.csv", row(CELLS[0], hash="other"), matches)
    with pytest.raises(ValueError, match="already has a row of blood_cells atss seed 0"):
        add_result(tmp_path / "a.csv", row(CELLS[0]), matches)


def test_exit_code_and_report(ran: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "write_report", lambda *paths: [])
    monkeypatch.setattr(command, "trees", lambda: DATA["trees"])
    folders = ["--results", str(tmp_path / "a.csv"), "--output", str(tmp_path), "--parallel", "1"]
    assert command.main(["--members", "clq", "--seeds", "5", *folders]) == 0
    assert command.main(["--members", "clq", "gfl", "--seeds", "5", *folders]) == 1
    assert ran == [Cell("trees", "clq", 5), Cell("trees", "gfl", 5)]


def test_a_hold_out_parts_the_training_files_by_their_names(tmp_path: Path):
    """The same files whatever the order in the json, about a fifth, and all boxes of an image."""
    images = [{"id": i, "file_name": f"sub/{i}.png"} for i in range(200)]
    annotations = [{"id": i, "image_id": i // 2} for i in range(400)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    parts = []
    for name, listed in (("a", images), ("b", images[::-1])):
        files = CocoFiles(tmp_path / f"{name}.json", tmp_path / "images")
        files.json_file.write_text(json.dumps({**content, "images": listed}))
        found = hold_out(DataSet("cells", Path("a.yaml"), files, FILES), tmp_path / name)
        assert found.name == "cells_hold_out" and found.train.image_root == files.image_root
        parts.append([json.loads(part.json_file.read_text()) for part in found[2:]])
    (train, val), other = parts
    ids = [{image["id"] for image in part["images"]} for part in (train, val)]
    assert ids[0] | ids[1] == set(range(200)) and not ids[0] & ids[1]
    assert 20 < len(ids[1]) < 60
    assert {image["id"] for image in other[1]["images"]} == ids[1]
    assert [a["id"] for a in val["annotations"]] == sorted(
        a["id"] for a in annotations if a["image_id"] in ids[1]
    )
    assert train["categories"] == val["categories"] == content["categories"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "blood_cells"], "'blood_cells' needs --train, --val and --name blood_cells"),
        (["--train", "a.json", "images"], "give --train, --val and --name"),
        (["--train", "a.json", "b", "--val", "c.json", "d"], "as --name blood_cells"),
        (["--opts", "SOLVER.MAX_ITER", "3"], "--results of their own"),
        (["--hold-out"], "--results of their own"),
    ],
)
def test_what_cannot_run_is_told_in_a_sentence(arguments: list[str], message: str):
    with pytest.raises(SystemExit, match=message):
        command.main(arguments)


def test_a_json_pair_becomes_options():
    files = [CocoFiles(Path(x), Path(y)) for x, y in (("t", "i"), ("v", "j"))]
    options = DataSet("mine", Path("a.yaml"), *files).options(["SEED", "1"])
    assert (options.config_file, options.opts) == ("a.yaml", ["SEED", "1"])
    assert (options.train, options.val) == (("t", "i"), ("v", "j"))


def test_members_differ_by_what_their_configs_say():
    keys = {member: dict(zip(*[iter(member_keys(member))] * 2)) for member in MEMBERS}
    assert keys["clq"] == {}
    assert keys["gfl"] == {"MODEL.CLQ.QUALITY": "none", "MODEL.CLQ.ALIGNMENT": False}
    assert keys["clq_alpha_0.0"] == {"MODEL.CLQ.ALPHA": 0.0}
    assert keys["atss"]["MODEL.CLQ.CLASS_LOSS"] == "focal"
    assert keys["clq_mosaic"] == {"INPUT.AUGMENTATIONS": ("mosaic",)}
    assert len({str(each) for each in keys.values()}) == len(MEMBERS)
