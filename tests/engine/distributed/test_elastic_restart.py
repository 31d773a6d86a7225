"""Launch ids in the output directory, and what they tell of a restart."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.utils import comm

from clq.engine.distributed.cluster_env import RankInfo
from clq.engine.distributed.elastic_restart import is_elastic_restart, record_launch_id

INFO = RankInfo("torchrun", 0, 2, local_rank=0, node=0, url="env://", launch_id="a")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Return a function that sets what rank 1 contributes to all_gather."""

    def contribute(value: Any) -> None:
        monkeypatch.setattr(comm, "all_gather", lambda own: [own, value])

    return contribute


def test_the_launch_that_began_a_training_is_recognized(tmp_path: Path):
    assert not is_elastic_restart(INFO, tmp_path)
    record_launch_id(INFO, tmp_path)
    assert is_elastic_restart(INFO, tmp_path)
    assert not is_elastic_restart(dataclasses.replace(INFO, launch_id="b"), tmp_path)


@pytest.mark.parametrize("info", [None, dataclasses.replace(INFO, launch_id="")])
def test_without_torchrun_nothing_is_recorded(info: RankInfo | None, tmp_path: Path):
    record_launch_id(info, tmp_path)
    assert list(tmp_path.iterdir()) == []
    record_launch_id(INFO, tmp_path)
    assert not is_elastic_restart(info, tmp_path)


@pytest.mark.parametrize(("first", "second"), [("a", "c"), ("c", "b")])
def test_one_known_node_is_enough(
    first: str, second: str, others: Callable[[Any], None], tmp_path: Path
):
    others("b")
    record_launch_id(INFO, tmp_path)
    others((second, []))
    assert is_elastic_restart(dataclasses.replace(INFO, launch_id=first), tmp_path)
    others(("d", []))
    assert not is_elastic_restart(dataclasses.replace(INFO, launch_id="c"), tmp_path)


def test_the_folder_of_rank_0_counts(others: Callable[[Any], None], tmp_path: Path):
    others(("a", ["a"]))
    assert not is_elastic_restart(INFO, tmp_path)


def test_only_rank_0_writes(
    others: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    others("b")
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    record_launch_id(INFO, tmp_path)
    assert list(tmp_path.iterdir()) == []
