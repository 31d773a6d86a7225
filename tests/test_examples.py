"""The notebook in examples/ runs from top to bottom and detects what it drew."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from reference.tiny import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture
def run(cpu_only: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The variables that the notebook's cells leave."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    matplotlib.use("Agg")
    variables: dict[str, Any] = {}
    for number, source in enumerate(code_cells()):
        exec(compile(source, f"{NOTEBOOK.name}, code cell {number}", "exec"), variables)
    return variables


def test_quickstart_trains_predicts_evaluates_and_plots(run: dict[str, Any]):
    assert run["metrics"]["AP"] > 10
    assert run["evaluated"]["AP"] == pytest.approx(run["metrics"]["AP"], abs=0.1)
    assert len(run["result"].boxes) > 0
    assert np.asarray(run["result"].plot()).ndim == 3
    assert [line["iteration"] for line in run["history"]] == [19, 39, 59, 79, 99]
    assert run["history"][-1]["total_loss"] < run["history"][0]["total_loss"]


def test_quickstart_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells)
