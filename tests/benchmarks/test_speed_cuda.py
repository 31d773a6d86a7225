"""The benchmark of devices: its cases, its clock, and what it writes when some cases fail."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import speed_cuda
from benchmarks.timing import device_cases
from benchmarks.timing.device_cases import FULL, ON_CPU, QUICK, Case, Models, cases
from benchmarks.timing.on_device import Clock
from benchmarks.timing.turns import Run

CPU = torch.device("cpu")
# One case of each kind, for the smallest images; (what, model, precision).
TRIED = [
    ("losses", "clq", "fp32"),
    ("network and post-processing", "clq", "fp32"),
    ("alignment and its gradients", "clq", "fp32"),
    ("matching of 10 boxes", "clq", "fp32"),
    ("inference", "clq", "bf16"),
    ("training step", "clq", "bf16"),
    ("inference", "torchvision_fcos", "fp32"),
]


@pytest.fixture(autouse=True)
def keep_tf32() -> Iterator[None]:
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


def test_the_promised_rows_are_there():
    found = {(case.what, *case[1:5]) for case in cases(FULL, CPU)}
    assert len(found) == len(list(cases(FULL, CPU)))
    for model in ("clq", "clq_X_101_32x4d", *device_cases.PEERS):
        for size in ((800, 1333), (800, 1088)):
            for batch in (1, 8):
                for precision in ("fp32", "tf32", "fp16", "bf16"):
                    assert ("inference", model, size, batch, precision) in found
    for batch in (8, 16):
        for model in ("clq", "clq_X_101_32x4d", "retinanet", "fcos"):
            assert ("training step", model, (800, 1333), batch, "fp16") in found
    parts = {"losses", "post-processing", "alignment", "matching of 1000 boxes"}
    assert parts <= {what for what, *_ in found}
    short = {(case.what, *case[1:5]) for case in cases(QUICK, CPU)}
    assert short < found and len(short) < 0.6 * len(found)


def test_each_kind_of_case_runs_on_cpu():
    scale = ON_CPU._replace(sizes=((64, 64),), batches=(1,), step_batches=(1,))
    scale = scale._replace(parts_size=(64, 64), alignment_map=(4, 4))
    found = {(case.what, case.model, case.precision): case for case in cases(scale, CPU)}
    clock = Clock(CPU, seconds=0, most=1)
    rows = list(speed_cuda.measure((found[key] for key in TRIED), clock, time.perf_counter() + 60))
    assert [row["note"] for row in rows] == [""] * len(TRIED)
    assert all(row["ms"] > 0 and row["calls"] == 1 for row in rows)


def test_a_model_is_built_once_and_the_last_one_kept(monkeypatch: pytest.MonkeyPatch):
    built = []
    monkeypatch.setattr(
        device_cases, "build", lambda name, device: built.append(name) or torch.nn.Linear(1, 1)
    )
    models = Models(CPU)
    first = models.get("clq")
    assert models.get("clq") is first
    models.get("fcos")
    assert models.get("clq") is not first and built == ["clq", "fcos", "clq"]


def test_the_clock_calls_as_often_as_time_allows():
    called: list[int] = []
    calls = Clock(CPU, seconds=60, most=5).time(lambda: called.append(1))
    assert len(called) == len(calls.milliseconds) == 5 and calls.peak_mb is None
    assert calls.median == sorted(calls.milliseconds)[2]
    assert len(Clock(CPU, seconds=0, most=5).time(lambda: time.sleep(0.001)).milliseconds) == 1


@pytest.mark.parametrize("precision", ("tf32", "fp32"))
def test_tf32_is_on_in_its_rows_only(precision: str):
    device_cases.allow_tf32(precision)
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    assert [flag.allow_tf32 for flag in flags] == [precision == "tf32"] * 2


def raising(error: Exception) -> Callable[[], Run]:
    def prepare() -> Run:
        raise error

    return prepare


class Made:
    """Takes the place of the cases: what each one's preparation does."""

    def __init__(self, **prepare: Callable[[], Run]) -> None:
        self.prepare = prepare

    def __call__(self, scale: Any, device: torch.device) -> Iterator[Case]:
        for model, prepare in self.prepare.items():
            yield Case("inference", model, (96, 128), 2, "fp32", prepare)


def main(path: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code = speed_cuda.main(["--device", "cpu", "--quick", "--results", str(path), *options])
    rows = json.loads(path.read_text())["rows"]
    return code, {row["model"]: row for row in rows}


def test_a_case_without_memory_is_told_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    made = Made(
        clq_large=raising(torch.OutOfMemoryError("no 9 GiB")),
        fcos=raising(RuntimeError("two\nlines")),
        clq=lambda: lambda: time.sleep(0.002),
    )
    monkeypatch.setattr(speed_cuda, "cases", made)
    code, rows = main(tmp_path / "new" / "speed_cpu.json")
    assert code == 0  # a peer may fail
    assert rows["clq_large"]["note"] == "out of memory" and rows["clq_large"]["ms"] is None
    assert rows["fcos"]["note"] == "failed: RuntimeError: two lines"
    clq = rows["clq"]
    assert clq["ms"] > 2 and clq["images_per_second"] == pytest.approx(2000 / clq["ms"])
    text = (tmp_path / "new" / "speed_cpu.md").read_text()
    printed = capsys.readouterr().out
    assert "| out of memory" in text and "What is timed" in text
    assert all(line in text for line in printed.splitlines() if line.startswith("|"))


def test_a_failed_row_of_ours_fails_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = Made(clq=raising(ValueError("wrong")), fcos=lambda: lambda: None)
    monkeypatch.setattr(speed_cuda, "cases", made)
    code, rows = main(tmp_path / "speed_cpu.json")
    assert code == 1 and rows["fcos"]["calls"] == 1


def test_after_its_time_cases_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed_cuda, "cases", Made(clq=lambda: lambda: None))
    code, rows = main(tmp_path / "speed_cpu.json", "--minutes", "0")
    assert code == 0 and rows["clq"]["note"] == "left out: no time"


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, seen = tmp_path / "speed_cpu.json", []
    look = lambda: seen.append(len(json.loads(path.read_text())["rows"]))  # noqa: E731
    monkeypatch.setattr(speed_cuda, "cases", Made(clq=lambda: lambda: None, fcos=lambda: look))
    main(path)
    assert seen == [1]


def test_a_trial_writes_only_where_it_is_told_to():
    assert speed_cuda.parse(["--device", "cpu", "--quick"]).results is None
    assert speed_cuda.parse(["--quick"]).results is None
    assert speed_cuda.parse([]).results == speed_cuda.RESULTS


@pytest.mark.parametrize("options", (["--device", "cpu"], ["--minutes", "soon"]))
def test_options_that_make_no_sense_are_refused(options: list[str]):
    with pytest.raises(SystemExit) as error:
        speed_cuda.parse(options)
    assert error.value.code == 2


@pytest.mark.usefixtures("cpu_only")
def test_a_missing_gpu_is_told_in_a_sentence():
    with pytest.raises(SystemExit, match="error: there is no CUDA device here"):
        speed_cuda.main(["--quick"])


def test_a_driver_that_does_not_answer_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert speed_cuda.driver_version() == "unknown"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 580.1\n")
    program.chmod(0o755)
    assert speed_cuda.driver_version() == "580.1"
