"""Reading metrics.json of a run."""

import json
from pathlib import Path

import pytest

from clq.evaluation.report.history import accuracy_prefixes, read_history, series


def write(folder: Path, *records: dict) -> Path:
    path = folder / "metrics.json"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def test_a_series_is_in_order_and_skips_what_lacks_the_metric(tmp_path: Path):
    losses = [{"iteration": i, "loss_cls": 1.0} for i in (19, 39)]
    history = read_history(write(tmp_path, *losses, {"iteration": 29, "loss_cls": 5, "bbox/AP": 7}))
    assert series(history, "loss_cls") == ([19, 29, 39], [1.0, 5, 1.0])
    assert series(history, "bbox/AP") == ([29], [7])
    assert series(history, "nothing") == ([], [])


def test_a_metric_that_is_undefined_is_no_point(tmp_path: Path):
    evaluations = [{"iteration": 19, "bbox/AP": float("nan")}, {"iteration": 39, "bbox/AP": 7.0}]
    assert series(read_history(write(tmp_path, *evaluations)), "bbox/AP") == ([39], [7.0])


@pytest.mark.parametrize(
    ("metrics", "prefixes"),
    [
        ({"bbox/AP": 7.0, "bbox/AP50": 9.0}, [""]),
        ({"a/bbox/AP": 7.0, "b/bbox/AP": 9.0}, ["a/", "b/"]),
        ({"loss_cls": 1.0}, []),
    ],
)
def test_accuracy_is_that_of_one_data_set_or_of_each_by_name(tmp_path: Path, metrics, prefixes):
    path = write(tmp_path, {"iteration": 19, **metrics}, {"iteration": 39, **metrics})
    assert accuracy_prefixes(read_history(path)) == prefixes


def test_a_damaged_file_is_named(tmp_path: Path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 39, "total_l')
    with pytest.raises(ValueError, match="metrics.json is damaged"):
        read_history(path)
