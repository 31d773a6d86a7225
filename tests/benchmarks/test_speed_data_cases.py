"""The cases of evaluation and data loading, made small."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.timing import data_cases


def test_both_evaluations_give_the_same_numbers_each_time():
    ours, peer = data_cases.evaluation(num_images=40, detections=30)
    expected = peer()
    assert len(expected) == 12 and all(1 < value < 99 for value in expected)
    for run in (ours, peer, ours):
        assert run() == pytest.approx(expected, rel=0, abs=1e-9)


def test_both_loaders_read_as_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    for name in ("CLQMapper", "DatasetMapper"):
        original = getattr(data_cases, name)

        class Counting(original):
            def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
                mapped = super().__call__(record)
                assert mapped["image"].shape[0] == 3 and min(mapped["image"].shape[1:]) == 800
                assert len(mapped["instances"]) == 7
                read.append(record["file_name"])
                return mapped

        monkeypatch.setattr(data_cases, name, Counting)
    monkeypatch.setattr(data_cases, "_FILES", 4)
    monkeypatch.setattr(data_cases, "_LOADED", 6)
    runs = data_cases.data_loading(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    for run in (*runs, *runs):
        read.clear()
        run()
        assert 4 <= len(read) <= 8, "images of the other shape may wait for their batch"
