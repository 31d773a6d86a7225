"""When a run ends with a report, and that a report never ends a run."""

from pathlib import Path

import pytest

from clq.engine import CLQTrainer, final_report, setup
from clq.engine.final_report import write_final_report
from clq.engine.run import run_in_process
from clq.evaluation.report import run_report
from reference.tiny import TinyData, command_line, parse

pytestmark = pytest.mark.usefixtures("cpu_only")
ON = {"TEST.REPORT": True, "SOLVER.MAX_ITER": 2}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Arguments with which reports are asked for; none is written."""
    made: list[tuple] = []

    def record(cfg, weights, folder, *, metrics_file):
        made.append((str(weights), str(folder), metrics_file and str(metrics_file)))
        return [folder / "index.html"]

    monkeypatch.setattr(run_report, "report_run", record)
    return made


def test_training_then_evaluation(tiny_data: TinyData, tmp_path: Path, calls: list):
    metrics = run_in_process(parse(command_line(tiny_data, tmp_path, keys=ON)))
    weights, folder = str(tmp_path / "model_final.safetensors"), str(tmp_path / "report")
    assert calls == [(weights, folder, str(tmp_path / "metrics.json"))]
    log = (tmp_path / "log.txt").read_text()
    assert f"What the detector gets wrong: {folder}/index.html" in log
    assert "bbox" in metrics
    keys = {"MODEL.WEIGHTS": weights, "TEST.REPORT": True}
    run_in_process(parse(command_line(tiny_data, tmp_path, "--eval-only", keys=keys)))
    assert calls[1:] == [(weights, folder, None)]


@pytest.mark.parametrize("key", ["TEST.REPORT", "DATASETS.TEST"])
def test_no_report_without_a_reason(tiny_data: TinyData, tmp_path: Path, calls: list, key: str):
    cfg = setup(parse(command_line(tiny_data, tmp_path, keys=ON)))
    cfg.defrost()
    cfg.merge_from_list([key, {"TEST.REPORT": False, "DATASETS.TEST": ()}[key]])
    write_final_report(cfg, "weights", trained=True)
    assert calls == []


def test_only_rank_0_writes(
    tiny_data: TinyData, tmp_path: Path, calls: list, monkeypatch: pytest.MonkeyPatch
):
    cfg = setup(parse(command_line(tiny_data, tmp_path, keys=ON)))
    monkeypatch.setattr(final_report.comm, "is_main_process", lambda: False)
    write_final_report(cfg, "weights", trained=True)
    assert calls == []


@pytest.mark.parametrize("error", [OSError("disk\x1b[31m full"), KeyError("a mistake of ours")])
def test_a_failure_is_one_warning(
    tiny_data: TinyData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(run_report, "report_run", fail)
    monkeypatch.setattr(final_report, "TOLERATED", (Exception,))  # as outside of tests
    trainer = CLQTrainer(setup(parse(command_line(tiny_data, tmp_path, keys=ON))))
    trainer.resume_or_load(resume=False)
    trainer.train()
    log = (tmp_path / "log.txt").read_text()
    (line,) = [line for line in log.splitlines() if "no report on the run" in line]
    assert "WARNING" in line and type(error).__name__ in line
    assert "Traceback" not in log and "\x1b" not in line
    assert (tmp_path / "model_final.safetensors").is_file() and "bbox" in trainer.last_results
