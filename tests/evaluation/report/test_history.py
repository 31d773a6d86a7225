"""What metrics.json tells of a run."""

import json

from clq.evaluation.report.history import accuracy_prefixes, read_history, series


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def losses(iteration, value, **more):
    names = ("loss_cls", "loss_box_reg", "loss_dfl", "loss_quality")
    return {
        "iteration": iteration,
        "total_loss": 4 * value,
        **dict.fromkeys(names, value),
        **more,
    }


def test_history_of_a_resumed_run(tmp_path):
    """The later run's values win, and what the earlier one wrote after that point goes."""
    first = [losses(i, 1.0) for i in (19, 39, 59, 79)]
    resumed = [losses(i, 2.0) for i in (39, 59)]
    history = read_history(write_lines(tmp_path / "metrics.json", first + resumed))
    assert {i: values["loss_cls"] for i, values in history.items()} == {19: 1.0, 39: 2.0, 59: 2.0}


def test_history_keeps_evaluations_that_are_written_late(tmp_path):
    records = [losses(19, 1.0), losses(39, 1.0), {"iteration": 29, "bbox/AP": 5.0}]
    records += [losses(59, 1.0), {"iteration": 59, "bbox/AP": 6.0}]
    history = read_history(write_lines(tmp_path / "metrics.json", records))
    assert list(history) == [19, 29, 39, 59]
    assert [history[i].get("bbox/AP") for i in history] == [None, 5.0, None, 6.0]
    assert history[59]["total_loss"] == 4.0


def test_history_skips_an_unfinished_line(tmp_path):
    path = write_lines(tmp_path / "metrics.json", [losses(19, 1.0)])
    path.write_text(path.read_text() + '{"iteration": 39, "total_l')
    assert list(read_history(path)) == [19]


def test_series_skips_iterations_without_the_metric(tmp_path):
    records = [losses(19, 1.0), losses(39, 0.5, **{"bbox/AP": 7.0})]
    history = read_history(write_lines(tmp_path / "metrics.json", records))
    assert series(history, "bbox/AP") == ([39], [7.0])
    assert series(history, "loss_cls") == ([19, 39], [1.0, 0.5])
    assert series(history, "nothing") == ([], [])


def test_accuracy_is_that_of_one_data_set_or_of_each_by_name(tmp_path):
    one = [losses(19, 1.0), losses(39, 0.5, **{"bbox/AP": 7.0, "bbox/AP50": 9.0})]
    two = [losses(19, 1.0, **{"a/bbox/AP": 7.0, "b/bbox/AP": 9.0}), losses(39, 0.5)]
    for records, prefixes in ((one, [""]), (two, ["a/", "b/"]), ([losses(19, 1.0)], [])):
        path = write_lines(tmp_path / "metrics.json", records)
        assert accuracy_prefixes(read_history(path)) == prefixes
