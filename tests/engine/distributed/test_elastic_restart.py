"""Which torchrun has begun a training, as its processes find it in the folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.utils import comm

from clq.engine.distributed.cluster_env import Place
from clq.engine.distributed.elastic_restart import is_restarted, note_launch

PLACE = Place("torchrun", 0, 2, local_rank=0, machine=0, url="env://", launch_id="a")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Says what a second process tells the first, whose values come before."""

    def tell(value: Any) -> None:
        monkeypatch.setattr(comm, "all_gather", lambda own: [own, value])

    return tell


def test_the_launch_that_began_a_training_is_known(tmp_path: Path):
    assert not is_restarted(PLACE, tmp_path)
    note_launch(PLACE, tmp_path)
    assert is_restarted(PLACE, tmp_path)
    assert not is_restarted(dataclasses.replace(PLACE, launch_id="b"), tmp_path)


@pytest.mark.parametrize("place", [None, dataclasses.replace(PLACE, launch_id="")])
def test_without_torchrun_nothing_is_known(place: Place | None, tmp_path: Path):
    note_launch(place, tmp_path)
    assert list(tmp_path.iterdir()) == []
    note_launch(PLACE, tmp_path)
    assert not is_restarted(place, tmp_path)


@pytest.mark.parametrize(("first", "second"), [("a", "c"), ("c", "b")])
def test_one_machine_that_was_there_before_is_enough(
    first: str, second: str, others: Callable[[Any], None], tmp_path: Path
):
    others("b")
    note_launch(PLACE, tmp_path)
    others((second, []))
    assert is_restarted(dataclasses.replace(PLACE, launch_id=first), tmp_path)
    others(("d", []))
    assert not is_restarted(dataclasses.replace(PLACE, launch_id="c"), tmp_path)


def test_the_folder_of_the_main_process_counts(others: Callable[[Any], None], tmp_path: Path):
    others(("a", ["a"]))
    assert not is_restarted(PLACE, tmp_path)


def test_the_main_process_alone_writes(
    others: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    others("b")
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    note_launch(PLACE, tmp_path)
    assert list(tmp_path.iterdir()) == []
