"""The report from rows and matches that were made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy.cells import Cell, study_cells
from benchmarks.accuracy.matches_file import save_matches
from benchmarks.accuracy.report import write_report
from benchmarks.accuracy.rows import FIELDS, add_result
from benchmarks.accuracy.summary import read_groups, spread
from clq.evaluation.report.average_precision import average_precision
from clq.evaluation.report.matches import match_detections
from reference.made_up_detections import detections, truth


def add(results: Path, cell: Cell, shift: float, **values: Any) -> float:
    """Add a row with matches of boxes that are off by up to ``shift`` pixels; gives its AP."""
    matches = match_detections(truth(), detections(shift, cell.seed))
    ap = average_precision(matches)
    save_matches(results.parent / "matches.npz", matches)
    row = {
        **dict.fromkeys(FIELDS, ""),
        **cell._asdict(),
        "hash": "abc",
        **{"AP": ap.mean(), "AP50": ap[0].mean(), "AP75": ap[5].mean()},
        "class_AP": json.dumps({"a": ap[:, 0].mean(), "b": ap[:, 1].mean()}),
        **{"AP_by_score": ap.mean(), "AP_by_true_IoU": ap.mean() + 10},
        **{"seconds": 90, "cpu_seconds": 120},
        **{"machine": "a machine, 1 threads", "torch": "2", "commit": "abc", "date": "today"},
        **values,
    }
    add_result(results, row, results.parent / "matches.npz")
    return float(ap.mean())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two seeds of ATSS and of CLQ, and one of GFL, on the trees."""
    path = tmp_path / "accuracy.csv"
    for member, shifts in {"atss": (14, 14), "clq": (7, 7), "gfl": (10,)}.items():
        for seed, shift in enumerate(shifts):
            add(path, Cell("trees", member, seed), shift)
    return path


def line_of(report: str, member: str, after: str = "") -> list[str]:
    lines = report[report.index(after) :].splitlines()
    line = next(line for line in lines if line.startswith(f"| {member} "))
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_means_deviations_and_differences(results: Path):
    write_report(results)
    report = results.with_suffix(".md").read_text()
    (group,) = read_groups(results)
    atss, clq = (group.values(member, "AP") for member in ("atss", "clq"))
    columns = line_of(report, "atss")
    expected = f"{np.mean(atss):.1f} ± {np.std(atss, ddof=1):.1f}"
    assert columns[:3] == ["atss", "2", expected] and columns[5:] == ["", ""]
    difference = group.difference("clq", "atss")
    assert difference is not None
    assert difference.value == pytest.approx(np.mean(clq) - np.mean(atss), abs=0.1)
    interval = f"[{difference.low:+.1f}, {difference.high:+.1f}]"
    assert line_of(report, "clq")[5] == f"{difference.value:+.1f} {interval}"
    gfl = line_of(report, "gfl")  # of one seed, so without deviation and interval
    assert gfl[1] == "1" and not set("±[") & set("".join(gfl))
    assert line_of(report, "atss_clq") == ["atss_clq", "0", "not run", "not run", "not run", "", ""]


def test_differences_at_each_threshold(results: Path):
    write_report(results)
    (group,) = read_groups(results)
    curve = group.curve("clq", "atss")
    found = {
        m: np.stack([average_precision(x) for x in group.matches(m).values()])
        for m in ("atss", "clq")
    }
    expected = (found["clq"] - found["atss"]).mean(axis=(0, 2))
    assert [one.value for one in curve] == pytest.approx(expected)
    row = line_of(results.with_suffix(".md").read_text(), "0.75")
    assert row[-1].startswith(f"{expected[5]:+.1f} [")


def test_what_scores_reach_of_the_possible(results: Path):
    write_report(results)
    report = results.with_suffix(".md").read_text()
    (group,) = read_groups(results)
    by_score = group.values("clq", "AP_by_score")
    shares = [100 * ap / (ap + 10) for ap in by_score]
    columns = line_of(report, "clq", after="How well the score")
    assert columns[-1] == f"{np.mean(shares):.1f} ± {np.std(shares, ddof=1):.1f}"


def test_a_cell_that_found_nothing_has_no_share(tmp_path: Path):
    path = tmp_path / "accuracy.csv"
    nothing = {"AP_by_score": 0.0, "AP_by_true_IoU": 0.0}
    add(path, Cell("trees", "clq", 0), 7, **nothing)
    (group,) = read_groups(path)
    assert np.isnan(group.shares("clq")).all()
    assert len(write_report(path)) == 3


def test_cells_that_did_not_run_are_listed(results: Path):
    write_report(results)
    report = results.with_suffix(".md").read_text()
    listed = report[report.index("Not run:") :]
    assert "- atss, seeds 2 3 4\n" in listed and "- gfl, seeds 1 2 3 4\n" in listed
    (group,) = read_groups(results)
    assert sum(map(len, group.not_run().values())) == len(study_cells(["trees"])) - 5


def test_rows_of_different_hashes_are_never_in_one_table(results: Path):
    add(results, Cell("trees", "atss", 0), 1, hash="other")
    first, second = read_groups(results)
    assert (first.hash, second.hash) == ("abc", "other")
    assert list(first.of("atss")) == [0, 1] and list(second.of("atss")) == [0]
    assert first.values("atss", "AP")[0] < second.values("atss", "AP")[0]
    write_report(results)
    report = results.with_suffix(".md").read_text()
    assert "## trees, abc" in report and line_of(report, "atss", after="## trees, other")[1] == "1"


def test_figures_are_pictures(results: Path, tmp_path: Path):
    files = write_report(results, tmp_path / "pictures")
    assert [path.name for path in files] == ["accuracy.md", "accuracy.png", "accuracy_scores.png"]
    for path in files[1:]:
        assert path.parent == tmp_path / "pictures"
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[1] > 800 and pixels.std() > 5


def test_a_value_without_number_is_left_out():
    assert spread([float("nan")]) is None
    assert spread([1.0, float("nan"), 3.0]) == (2, pytest.approx(2**0.5))


def test_no_results_no_report(tmp_path: Path):
    assert write_report(tmp_path / "a.csv") == []
    assert list(tmp_path.iterdir()) == []


def test_augmentations_have_a_table_of_their_own(results: Path):
    title = "CLQ with augmentations:"
    write_report(results)
    assert title not in results.with_suffix(".md").read_text()
    for seed in (0, 1):
        add(results, Cell("trees", "clq_mosaic", seed), 10)
    write_report(results)
    report = results.with_suffix(".md").read_text()
    assert line_of(report, "clq_mosaic", after=title)[5].startswith("-")
    assert line_of(report, "clq_scale_jitter", after=title)[1:3] == ["0", "not run"]
