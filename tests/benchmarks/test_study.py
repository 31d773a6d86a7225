"""The loop over cells: what is skipped, what is added, and what a failure does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy import study
from benchmarks.accuracy.cells import (
    ABLATIONS,
    FAMILY,
    MEMBERS,
    SETTINGS,
    Cell,
    DataSet,
    member_keys,
    study_cells,
)
from benchmarks.accuracy.rows import FIELDS, add_result, cell_of, read_rows
from clq.data import CocoFiles

DATA = {name: DataSet(name, SETTINGS / "trees.yaml") for name in ("blood_cells", "trees")}
CELLS = study_cells(DATA, FAMILY, seeds=(0, 1))


def row(cell: Cell, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(FIELDS, 1.5), **cell._asdict(), "commit": "abc", **values}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Replaces training: every cell gives a row at once, but GFL fails."""
    cells: list[Cell] = []

    def run(
        function: Callable, cell: Cell, data: DataSet, folder: Path, opts: Sequence[str]
    ) -> dict[str, Any]:
        cells.append(cell)
        if cell.member == "gfl":
            raise ValueError("it has\nno luck")
        return row(cell, AP=30 + cell.seed)

    monkeypatch.setattr(study, "run_apart", run)
    return cells


def test_the_first_seed_of_the_family_comes_first_and_the_ablations_last():
    cells = study_cells(["blood_cells", "trees"])
    assert [cell[:2] for cell in cells[:8]] == [
        (data, member) for data in ("blood_cells", "trees") for member in FAMILY
    ]
    assert {cell.seed for cell in cells[:8]} == {0}
    assert len(cells) == len(set(cells)) == 3 * (2 * len(FAMILY) + len(ABLATIONS))
    assert {cell.data for cell in cells[24:]} == {"blood_cells"}
    assert {cell.member for cell in cells[24:]} == set(ABLATIONS)


def test_finished_cells_are_rows_and_run_once(ran: list[Cell], tmp_path: Path):
    results = tmp_path / "new" / "accuracy.csv"
    some = [cell for cell in CELLS if cell.member != "gfl"]
    keywords = {"results": results, "output": tmp_path}
    assert study.run_missing(some[:3], DATA, **keywords) == 0
    assert [cell_of(r) for r in read_rows(results)] == some[:3]
    assert study.run_missing(some, DATA, **keywords) == 0
    assert ran == some
    assert [cell_of(r) for r in read_rows(results)] == some
    assert study.run_missing(some, DATA, **keywords) == 0
    assert ran == some
    assert [path.name for path in results.parent.iterdir()] == ["accuracy.csv"]


def test_a_failure_is_one_line_without_a_row(
    ran: list[Cell], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    results = tmp_path / "accuracy.csv"
    failed = study.run_missing(CELLS, DATA, results=results, output=tmp_path)
    assert failed == 4 and len(ran) == len(CELLS) == 16
    assert {cell.member for cell in map(cell_of, read_rows(results))} == set(FAMILY) - {"gfl"}
    lines = [line for line in capsys.readouterr().out.splitlines() if "gfl" in line]
    assert lines[0] == "[3/16] blood_cells gfl seed 0 failed: it has no luck"
    assert len(lines) == 4


def test_again_compares_and_leaves_the_csv_alone(
    ran: list[Cell], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    results = tmp_path / "accuracy.csv"
    cells = [Cell("trees", "clq", seed) for seed in (0, 1)]
    for cell in cells:
        add_result(results, row(cell, AP=28 + 5 * cell.seed))
    before = results.read_bytes()
    again = [*cells, Cell("trees", "atss", 0)]
    assert study.run_again(again, DATA, results=results, output=tmp_path) == 0
    assert ran == cells and results.read_bytes() == before
    printed = capsys.readouterr().out
    assert "AP 30.00 now, 28.00 in" in printed and "within the spread" in printed
    assert "28.00 to 33.00" in printed and "have none: trees atss seed 0" in printed


def test_a_result_outside_the_spread_is_told_and_counted(
    ran: list[Cell], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    results = tmp_path / "accuracy.csv"
    add_result(results, row(Cell("trees", "clq", 0), AP=40))
    again = [Cell("trees", "clq", 0)]
    assert study.run_again(again, DATA, results=results, output=tmp_path) == 1
    assert "OUTSIDE" in capsys.readouterr().out


def test_the_spread_is_three_deviations_around_the_mean():
    assert study.is_within_spread(17.0, [10.0, 12.0, 14.0])  # 12 +- 3 * 2
    assert not study.is_within_spread(18.1, [10.0, 12.0, 14.0])
    assert study.is_within_spread(12.0, [12.0]) and not study.is_within_spread(12.1, [12.0])


def test_a_cell_has_one_row(tmp_path: Path):
    add_result(tmp_path / "a.csv", row(CELLS[0]))
    with pytest.raises(ValueError, match="already has a row of blood_cells atss seed 0"):
        add_result(tmp_path / "a.csv", row(CELLS[0]))


def test_exit_code_and_report(ran: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "write_report", lambda *paths: [])
    folders = ["--results", str(tmp_path / "a.csv"), "--output", str(tmp_path)]
    assert command.main(["--members", "clq", "--seeds", "5", *folders]) == 0
    assert command.main(["--members", "clq", "gfl", "--seeds", "5", *folders]) == 1
    assert ran == [Cell("trees", "clq", 5), Cell("trees", "gfl", 5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "blood_cells"], "'blood_cells' needs --train, --val and --name blood_cells"),
        (["--train", "a.json", "images"], "give --train, --val and --name"),
        (["--train", "a.json", "b", "--val", "c.json", "d"], "as --name blood_cells"),
        (["--opts", "SOLVER.MAX_ITER", "3"], "--results of their own"),
    ],
)
def test_what_cannot_run_is_told_in_a_sentence(arguments: list[str], message: str):
    with pytest.raises(SystemExit, match=message):
        command.main(arguments)


def test_a_json_pair_becomes_arguments():
    data = DataSet("mine", Path("a.yaml"), CocoFiles("t", "i"), CocoFiles("v", "j"))
    expected = ["--config-file", "a.yaml", "--train", "t", "i", "--val", "v", "j"]
    assert data.arguments() == expected


def test_members_differ_by_what_their_configs_say():
    keys = {member: dict(zip(*[iter(member_keys(member))] * 2)) for member in MEMBERS}
    assert keys["clq"] == {}
    assert keys["gfl"] == {"MODEL.CLQ.QUALITY": "none", "MODEL.CLQ.ALIGNMENT": False}
    assert keys["clq_alpha_0.0"] == {"MODEL.CLQ.ALPHA": 0.0}
    assert keys["atss"]["MODEL.CLQ.CLASS_LOSS"] == "focal"
    assert len({str(each) for each in keys.values()}) == len(MEMBERS)
