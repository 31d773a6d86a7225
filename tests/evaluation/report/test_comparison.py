"""The page on two runs: on which data, and what it says of their difference."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clq.evaluation.report.comparison import read_difference, report_comparison
from clq.evaluation.report.runs import Run
from clq.evaluation.report.thumbnails import ThumbnailMaker
from reference.browser import WIDTHS, find_browser, layout_faults
from reference.report_run import made_up_data


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run]:
    """A run, and one that finds nothing in every other image."""
    truth, found = made_up_data(tmp_path, num_images=20, class_names=["a", "<b>"])
    first = Run("a.pth", "val", "val.json", truth, found, ThumbnailMaker(tmp_path), 100)
    fewer = [detection for detection in found if detection["image_id"] % 2]
    return first, replace(first, weights="b.pth", detections=fewer)


def test_page(runs: tuple[Run, Run], tmp_path: Path):
    page = report_comparison(*runs, tmp_path / "report")
    facts = json.loads((page.parent / "report.json").read_text())
    assert facts["metrics"]["AP"]["high"] < 0
    text = page.read_text()
    assert "A is better than B by" in text and "more than chance explains" in text
    assert "&lt;b&gt;" in text and "<b>&lt;b" not in text and "a.pth" in text and "b.pth" in text
    assert f"{facts['metrics']['AP']['a']:.1f}" in text
    assert "B gains on no class, least it loses on" in text
    assert {path.stem for path in page.parent.glob("*.png")} == {"metrics", "classes"}
    assert text.count("data:image/jpeg") == 2 * len(facts["images"]) > 0
    if find_browser():
        assert [layout_faults(page, width) for width in WIDTHS] == [{}, {}]


def test_a_run_beside_itself(runs: tuple[Run, Run], tmp_path: Path):
    text = report_comparison(runs[0], runs[0], tmp_path / "report").read_text()
    assert "differ by 0.0 points of AP; these images" in text
    assert "No image makes a difference between the two runs." in text


def test_runs_of_other_data_are_refused(runs: tuple[Run, Run], tmp_path: Path):
    other = replace(runs[1], json_file="other.json")
    with pytest.raises(
        ValueError, match=r"a.pth was evaluated on .*val.json, but b.pth on .*other"
    ):
        report_comparison(runs[0], other, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("delta", "low", "high", "text"),
    [
        (2.0, 1.0, 3.0, "B is better than A by 2.0 points"),
        (-2.0, -3.0, -1.0, "A is better than B by 2.0 points"),
        (2.0, -1.0, 5.0, "differ by 2.0 points of AP, which may be chance"),
        (2.0, 2.0, 2.0, "by 2.0 points of AP; these images can't tell how far that varies."),
        (2.0, None, None, "by 2.0 points of AP; these images can't tell how far that varies."),
        (None, None, None, "no difference"),
    ],
)
def test_differences_are_judged_by_their_interval(delta, low, high, text):
    assert text in read_difference({"delta": delta, "low": low, "high": high})
