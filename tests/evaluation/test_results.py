import json
import math

import numpy as np
import pytest

from clq.evaluation.results import (
    METRIC_NAMES,
    box_results_by_dataset,
    class_aps,
    write_results,
)


def metrics(**changes):
    return {**{name: float(i) for i, name in enumerate(METRIC_NAMES)}, **changes}


def reject_constant(name):
    raise AssertionError(f"{name} is not JSON")


def read(path):
    return json.loads(path.read_text(), parse_constant=reject_constant)


def test_content(tmp_path):
    path = tmp_path / "new folder" / "results.json"
    test = metrics(APs=math.nan, AP=12.345678901234567)
    test |= {"AP-tree": 12.345678901234567, "AP-dead-tree": math.nan}
    write_results(path, {"test": test, "other": {}}, seed=1, seconds=math.inf, torch="2.0")
    assert read(path) == {
        "test": {
            **metrics(APs=None, AP=12.345678901234567),
            "per_class": {"tree": 12.345678901234567, "dead-tree": None},
        },
        "other": {**dict.fromkeys(METRIC_NAMES), "per_class": {}},
        "seed": 1,
        "seconds": None,
        "torch": "2.0",
    }
    assert list(read(path)["test"])[:12] == list(METRIC_NAMES)


def test_numpy_scalars_and_nested_extras(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, {"test": metrics(AP=np.float32(0.5))}, speed={"ms": [np.nan, np.int64(2)]})
    assert read(path)["test"]["AP"] == 0.5
    assert read(path)["speed"] == {"ms": [None, 2]}


def test_writing_is_atomic(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, {"test": metrics()})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_results(path, {"test": metrics()}, thing=object())
    assert path.read_bytes() == before
    write_results(path, {"test": metrics(AP=99.0)})
    assert read(path)["test"]["AP"] == 99.0
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_failed_replace_leaves_no_file(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_results(tmp_path / "results.json", {"test": metrics()})
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_named_like_an_extra(tmp_path):
    with pytest.raises(ValueError, match="seed"):
        write_results(tmp_path / "results.json", {"seed": metrics()}, seed=1)
    assert list(tmp_path.iterdir()) == []


def test_box_results_by_dataset():
    one, two = metrics(AP=1.0), metrics(AP=2.0)
    assert box_results_by_dataset({"bbox": one}, ["a"]) == {"a": one}
    assert box_results_by_dataset({}, ["a"]) == {"a": {}}
    both = {"a": {"bbox": one}, "b": {"bbox": two}, "c": {}}
    by_dataset = box_results_by_dataset(both, ["b", "a", "c"])
    assert by_dataset == {"b": two, "a": one, "c": {}}
    assert list(by_dataset) == ["b", "a", "c"]


def test_class_aps():
    assert class_aps({"AP": 1.0, "AP-b": 2.0, "AP-a": 3.0}) == {"b": 2.0, "a": 3.0}
