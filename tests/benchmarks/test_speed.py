"""The command, with cases that take no time."""

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest
import torch

from benchmarks import speed
from benchmarks.timing.groups import Group, Peaks, Timed, groups
from benchmarks.timing.peak import Peak
from benchmarks.timing.rows import Row
from benchmarks.timing.turns import Run, Timing

# Of the ratio, at most; of ours where there is no peer.
BARS = {
    "inference_vs_retinanet": 1.0,
    "inference_vs_fcos": 1.0,
    "inference_fast_vs_retinanet": 0.5,
    "step_vs_fcos": 1.07,
    "losses_vs_fcos": 1.15,
    "step_vs_retinanet": 1.0,
    "step_memory_vs_fcos": 1.2,
    "step_memory_vs_retinanet": 1.0,
    "alignment_forward": 0.3,
    "alignment_forward_backward": 0.15,
    "alignment_forward_1_thread": 0.5,
    "alignment_forward_backward_1_thread": 0.25,
    "alignment_memory": 1.0,
    "matching_1000": 1 / 80,
    "matching_10": 1 / 3,
    "matching_1000_mb": 10,
    "matching_10000_mb": 100,
    "postprocess_share": 0.03,
    "batch8_vs_batch1": 1.0,
    "evaluation": 1 / 50,
    "data_loading": 1.0,
}
SECONDS = {"quick": 1.0, "slow": 4.0, "batch": 6.0}
GROWTH = {"small": 2.0, "large": 14.0}
ROWS = (
    Row("faster", ("quick",), ("slow",), 0.25),
    Row("slower", ("slow",), ("quick",), 3.9),
    Row("no_bar", ("quick",), ("slow",), None),
    Row("not_here", ("lacking",), ("slow",), 0.5),
)
BATCH = (Row("share", ("batch", "slow"), ("slow", "quick"), 1.0),)
MEMORY = (Row("memory_mb", ("small",), None, 10), Row("ratio_mb", ("large",), ("small",), 6.0))


def crash() -> None:
    raise RuntimeError("a case crashed")


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


class Made:
    """Groups whose cases say that they were called, and what takes the place of the clock."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.until: list[float] = []
        self.last: Run = lambda: None

    def groups(self, folder: Path) -> list[Group]:
        assert folder.is_dir()
        last = Timed("last", lambda names: {"slow": self.last}, self.check, (BATCH[0],), 1, 1)
        last = last._replace(rows=(Row("last", ("slow",), ("slow",), None),))
        prepare = {name: self.case(name) for name in GROWTH}
        return [
            Timed("first", self.build, self.check, ROWS, 2, 30),
            Timed("second", self.build, self.check, BATCH, 2, 10, 1, {"batch": 3}),
            Peaks("memory", prepare, MEMORY, False, 1, 1),
            last,
        ]

    def case(self, name: str) -> Callable[[], Run]:
        return lambda: self.called.append(name) or (lambda: None)

    def build(self, names: list[str]) -> dict[str, Run]:
        threads = torch.get_num_threads()
        return {n: lambda n=n: self.called.append(f"{n} {threads}") for n in names if n in SECONDS}

    def check(self, results: Mapping[str, object]) -> None:
        self.called.append("checked")

    def take_turns(
        self, runs: Mapping[str, Run], rounds: int, until: float, *, cold: Collection[str]
    ) -> Timing:
        self.until.append(until)
        seconds = {name: [SECONDS[name] * (i + 1) for i in range(rounds)] for name in runs}
        return Timing(seconds, rounds + 1, 1, {name: run() for name, run in runs.items()})

    def run_apart(self, function: object, prepare: Callable[[], Run], threads: int) -> Peak:
        prepare()
        return Peak(500, GROWTH[self.called[-1]])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    before = torch.get_num_threads()
    made = Made()
    for name in ("groups", "take_turns", "run_apart"):
        monkeypatch.setattr(speed, name, getattr(made, name))
    yield made
    torch.set_num_threads(before)


def written(path: Path) -> dict[str, dict]:
    content = json.loads(path.read_text())
    assert content.keys() == {"environment", "rows"}
    return {row["name"]: row for row in content["rows"]}


def test_every_promised_row_has_its_bar():
    rows = {row.name: row for group in groups(Path()) for row in group.rows}
    assert {name: row.bar for name, row in rows.items() if row.bar is not None} == BARS
    without_peer = {name for name, row in rows.items() if row.peer is None}
    assert without_peer == {"matching_1000_mb", "matching_10000_mb"}
    ours = {name: row.ours[0] for name, row in rows.items()}
    assert {n: s for n, s in ours.items() if not s.startswith(("clq", "ours"))} == {
        "postprocess_share": "postprocess",
        "matching_1000_mb": "1000",
        "matching_10000_mb": "10000",
    }
    assert ours["inference_fast_vs_retinanet"] == "clq_fast"
    assert rows["batch8_vs_batch1"].series() == ("clq_8", "clq_1", "fcos_8", "fcos_1")
    peers = [row.peer[0] for row in rows.values() if row.peer]
    assert not [peer for peer in peers if peer.startswith(("clq", "ours"))]
    for name in rows:
        for peer in ("retinanet", "fcos"):
            if name.endswith(f"_vs_{peer}") and "torchvision" not in name:
                assert rows[name].peer == (peer,)


def test_groups_name_what_they_can_build():
    for group in groups(Path()):
        if isinstance(group, Peaks):
            assert {name for row in group.rows for name in row.series()} == group.prepare.keys()
        else:
            names = {name for row in group.rows for name in row.series()}
            assert {*group.per_call, *group.cold} <= names
    assert sum(group.estimate for group in groups(Path())) < 15 * 60


def test_rows_are_ratios_of_medians(made: Made, tmp_path: Path):
    assert speed.main(["--json", str(tmp_path / "new" / "speed.json")]) == 0
    rows = written(tmp_path / "new" / "speed.json")
    assert list(rows) == [*(row.name for row in (*ROWS, *BATCH, *MEMORY)), "last"]
    keys = ("ours", "peer", "ratio", "bar", "ok", "unit")
    found = {name: tuple(row[key] for key in keys) for name, row in rows.items()}
    assert found == {
        "faster": (1.5, 6.0, 0.25, 0.25, True, "s"),
        "slower": (6.0, 1.5, 4.0, 3.9, False, "s"),
        "no_bar": (1.5, 6.0, 0.25, None, None, "s"),
        "not_here": (None, 6.0, "n/a", 0.5, None, "s"),
        "share": (0.5, 4.0, 0.125, 1.0, True, "s/s"),
        "memory_mb": (2.0, None, None, 10, True, "MB"),
        "ratio_mb": (14.0, 2.0, 7.0, 6.0, False, "MB"),
        "last": (4.0, 4.0, 1.0, None, None, "s"),
    }
    assert rows["faster"]["spread"] == [0.25, 0.25] and rows["share"]["spread"] == [0.125, 0.125]
    assert rows["last"]["spread"] is None  # of one round
    assert (rows["faster"]["rounds"], rows["faster"]["disturbed"]) == (2, 1)


def test_the_table_says_the_same(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    speed.main(["--json", str(tmp_path / "speed.json"), "--threads", "2"])
    report = (tmp_path / "speed.md").read_text()
    printed = capsys.readouterr().out
    table = {}
    for line in report.splitlines():
        if line.startswith("| ") and "-" not in line.split("|")[1]:
            assert line in printed
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            table[name] = cells
    assert table["slower"] == ["6", "1.5", "s", "4", "4–4", "3.9", "NO", "2", "1 disturbed"]
    assert table["faster"][4:7] == ["0.25–0.25", "0.25", "yes"]
    assert table["not_here"] == ["", "6", "s", "n/a", "", "0.5", "", "2", "1 disturbed"]
    assert table["memory_mb"] == ["2", "", "MB", "", "", "10", "yes", "1", ""]
    assert "What is timed" in report and "What is timed" in (speed.__doc__ or "")
    for name, value in json.loads((tmp_path / "speed.json").read_text())["environment"].items():
        assert f"{name}: {value}\n" in printed and f"- {name}: {value}\n" in report


def test_the_environment_is_told(made: Made, tmp_path: Path):
    speed.main(["--json", str(tmp_path / "speed.json"), "--threads", "3"])
    told = json.loads((tmp_path / "speed.json").read_text())["environment"]
    assert told["threads"] == 3 and told["torch"] == torch.__version__
    assert told["processor"].endswith(", 3 threads")
    promised = {"cores", "torchvision", "detectron2", "precision", "input", "commit"}
    assert promised <= told.keys() and all(told[name] for name in promised)


def test_threads_are_those_of_the_command_or_of_the_group(made: Made, tmp_path: Path):
    speed.main(["--json", str(tmp_path / "speed.json"), "--threads", "3"])
    assert made.called[:6] == ["quick 3", "slow 3", "checked", "batch 1", "slow 1", "quick 1"]


def test_only_some_rows(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed, "RESULTS", tmp_path / "default.json")
    path = tmp_path / "speed.json"
    path.write_text('{"rows": [{"name": "slower"}]}')
    assert speed.main(["--only", "not_here", "memory_mb", "--json", str(path)]) == 0
    assert list(written(path)) == ["not_here", "memory_mb"]  # and nothing of the old file
    assert made.called == ["slow 2", "checked", "small"]
    assert speed.main(["--only", "share"]) == 0
    assert not (tmp_path / "default.json").exists()  # where a whole run goes
    assert speed.main([]) == 0
    assert len(written(tmp_path / "default.json")) == 8


def test_unknown_rows_are_refused(made: Made, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        speed.main(["--only", "inference"])
    assert error.value.code == 2 and "slower" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        speed.main(["--rounds", "0"])
    assert made.called == []


def test_after_a_crash_the_old_files_are_there(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made.last = crash
    for name in ("speed.json", "speed.md"):
        (tmp_path / name).write_text("old")
    assert speed.main(["--json", str(tmp_path / "speed.json")]) == 1
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["old", "old"]
    output = capsys.readouterr()
    assert "a case crashed" in output.err and "last" in output.err.splitlines()[-1]
    assert "| slower" in output.out  # what the others gave is shown


def test_after_a_crash_the_other_groups_go_on(made: Made, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(made, "build", lambda names: crash())
    assert speed.main(["--only", "slower", "memory_mb"]) == 1
    assert made.called == ["small"]


def test_a_failed_check_is_a_crash(made: Made, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(made, "check", lambda results: crash())
    assert speed.main(["--only", "slower"]) == 1


def test_ctrl_c_leaves_the_old_files(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made.last = press_ctrl_c
    (tmp_path / "speed.json").write_text("old")
    with pytest.raises(SystemExit) as error:
        speed.main(["--json", str(tmp_path / "speed.json")])
    assert error.value.code == 130
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    assert "nothing was written" in capsys.readouterr().err


def test_each_group_has_its_share_of_the_time(made: Made, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed.time, "perf_counter", lambda: 100.0)
    speed.main(["--minutes", "7", "--only", "faster", "share", "memory_mb", "last"])
    estimates = [30, 10, 1, 1]
    shares = [30 / 42, 10 / 12, 1 / 1]
    assert made.until == pytest.approx([100 + 7 * 60 * share for share in shares])
    assert sum(estimates) == 42


@pytest.mark.parametrize(("option", "count"), [([], 2), (["--rounds", "4"], 4)])
def test_the_number_of_rounds(made: Made, tmp_path: Path, option: list[str], count: int):
    path = tmp_path / "speed.json"
    speed.main(["--only", "slower", "--json", str(path), *option])
    assert written(path)["slower"]["rounds"] == count


def test_a_peak_is_the_median_of_its_processes(monkeypatch: pytest.MonkeyPatch):
    found = iter([Peak(5, 1), Peak(9, 4), Peak(7, 2)])
    monkeypatch.setattr(speed, "run_apart", lambda *_: next(found))
    rows = (Row("memory", ("one",), None, 10),)
    group = Peaks("memory", {"one": lambda: lambda: None}, rows, False, 3, 1)
    (row,) = speed.measure_peaks(group, argparse.Namespace(threads=1))
    assert row["ours"] == 2 and row["rounds"] == 3 and row["ok"] is True
