"""The report from rows that were made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy.cells import ABLATIONS, FAMILY, Cell, study_cells
from benchmarks.accuracy.report import write_report
from benchmarks.accuracy.rows import FIELDS, add_result, read_rows, write_rows
from benchmarks.accuracy.summary import DIFFERENCE_FIELDS, baselines, not_run, spread

TRUTH = {
    "images": [{"id": i, "width": 90, "height": 90} for i in range(1, 5)],
    "categories": [{"id": 1, "name": "Tree"}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 40, 40]} for i in range(1, 5)
    ],
}


def add(results: Path, cell: Cell, ap: float, **values: Any) -> None:
    numbers = {"AP": ap, "AP50": ap + 20, "AP75": ap + 2, "rank_correlation": 0.4}
    times = {"seconds": 90, "seconds_per_iteration": 0.3}
    made = {"machine": "a machine, 2 threads", "torch": "2", "commit": "abc", "date": "today"}
    classes = {"class_AP": json.dumps({"Tree": ap})}
    empty = dict.fromkeys(FIELDS, "")
    add_result(
        results, {**empty, **cell._asdict(), **numbers, **times, **made, **classes, **values}
    )


def leave_detections(folder: Path, scores: dict[int, float]) -> None:
    """What a run leaves: the box of each image in ``scores``, exactly."""
    found = [
        {"image_id": i, "category_id": 1, "bbox": [5, 5, 40, 40], "score": score}
        for i, score in scores.items()
    ]
    (folder / "inference" / "val").mkdir(parents=True)
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    (folder / "inference" / "val" / "coco_instances_results.json").write_text(json.dumps(found))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two seeds of ATSS and of CLQ, and one of GFL, on the trees."""
    path = tmp_path / "accuracy.csv"
    for member, aps in {"atss": (10, 12), "clq": (15, 13), "gfl": (11,)}.items():
        for seed, ap in enumerate(aps):
            add(path, Cell("trees", member, seed), ap)
    return path


def test_cells_that_did_not_run_are_listed(results: Path, tmp_path: Path):
    missing = not_run(read_rows(results))
    assert len(missing) == len(study_cells(["blood_cells", "trees"])) - 5
    write_report(results, tmp_path / "none", tmp_path / "figure.png")
    report = (tmp_path / "accuracy.md").read_text()
    assert all(f"- {cell}\n" in report for cell in missing)
    assert "- trees clq seed 0\n" not in report and "- trees gfl seed 1\n" in report
    atss_clq = next(line for line in report.split("## trees")[1].splitlines() if "atss_clq" in line)
    assert atss_clq.split("|")[3].strip() == "not run"


def test_mean_and_sample_deviation(results: Path, tmp_path: Path):
    value = spread(read_rows(results)[:2], "AP")
    assert value == (11, pytest.approx(2**0.5), (10, 12))
    write_report(results, tmp_path / "none", tmp_path / "figure.png")
    lines = (tmp_path / "accuracy.md").read_text().split("## trees")[1].splitlines()
    columns = [cell.strip() for cell in next(x for x in lines if "| atss " in x).split("|")]
    assert columns[1:7] == ["atss", "2", "11.0 ± 1.4", "31.0 ± 1.4", "13.0 ± 1.4", ""]
    assert next(x for x in lines if "| gfl " in x).split("|")[3].strip() == "11.0"


def test_a_value_without_number_is_left_out():
    assert spread([{"AP": "nan"}, {"AP": ""}], "AP") is None


def test_figure_is_a_picture(results: Path, tmp_path: Path):
    files = write_report(results, tmp_path / "none", tmp_path / "pictures" / "figure.png")
    assert files[-1] == tmp_path / "pictures" / "figure.png"
    pixels = np.asarray(Image.open(files[-1]).convert("RGB"))
    assert pixels.shape[1] > 800 and pixels.std() > 5


def test_differences_come_from_the_detections(tmp_path: Path):
    """AP is 25.25 %, 50.5 % and so on for each image found, in COCO's 101 points of recall."""
    results, output = tmp_path / "accuracy.csv", tmp_path / "output"
    for member, images in {"atss": (1, 2), "clq": (1, 2, 3, 4)}.items():
        cell = Cell("trees", member, 0)
        leave_detections(output / cell.folder, {i: 0.9 for i in images})
        ap = 100.0 if len(images) == 4 else 100 * 51 / 101
        add(results, cell, ap, AP50=ap, AP75=ap)
    write_report(results, output, tmp_path / "figure.png")
    row, *_ = read_rows(tmp_path / "accuracy_differences.csv")
    assert (row["member"], row["baseline"], row["metric"]) == ("clq", "atss", "AP")
    assert float(row["difference"]) == pytest.approx(100 * 50 / 101, abs=0.01)
    assert 0 <= float(row["low"]) < float(row["difference"]) < float(row["high"]) <= 100
    assert "+49.5 [" in (tmp_path / "accuracy.md").read_text()

    # Without the runs' folders the file keeps what was computed.
    before = (tmp_path / "accuracy_differences.csv").read_bytes()
    write_report(results, tmp_path / "none", tmp_path / "figure.png")
    assert (tmp_path / "accuracy_differences.csv").read_bytes() == before


def test_detections_of_other_runs_are_refused(tmp_path: Path):
    results, output = tmp_path / "accuracy.csv", tmp_path / "output"
    for member in ("atss", "clq"):
        cell = Cell("trees", member, 0)
        leave_detections(output / cell.folder, {1: 0.9})
        add(results, cell, 30.0 if member == "clq" else 20.0)
    with pytest.raises(ValueError, match="not those of the results"):
        write_report(results, output, tmp_path / "figure.png")


def test_differences_of_other_seeds_are_dropped(results: Path, tmp_path: Path):
    stale = dict.fromkeys(DIFFERENCE_FIELDS, "1")
    stale |= {"data": "trees", "member": "clq", "baseline": "atss", "seeds": "0", "metric": "AP"}
    path = tmp_path / "accuracy_differences.csv"
    write_rows(path, DIFFERENCE_FIELDS, [stale])
    write_report(results, tmp_path / "none", tmp_path / "figure.png")
    assert read_rows(path) == []


def test_no_results_no_report(tmp_path: Path):
    assert write_report(tmp_path / "a.csv", tmp_path, tmp_path / "figure.png") == []
    assert list(tmp_path.iterdir()) == []


def test_every_member_has_something_to_be_compared_with():
    assert baselines("atss") == [] and baselines("clq") == ["atss"]
    for member in ABLATIONS:
        assert baselines(member)[0] == "atss" and baselines(member)[1] in FAMILY
