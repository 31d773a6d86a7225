"""Rendezvous of torchrun's processes after a restart; see test_launch for the rest."""

import dataclasses
import signal
import threading
import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from clq.engine.distributed import process_group
from clq.engine.distributed.cluster_env import RankInfo
from reference.tiny import free_url

FIRST = RankInfo("torchrun", 0, 2, local_rank=0, node=0, url="env://")
PATIENCE = timedelta(minutes=1)
SECOND = dataclasses.replace(FIRST, rank=1, local_rank=1)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    """The store of torchrun, which still has the port of a dead process."""
    store = dist.HashStore()
    store.set("clq/port", free_url().rpartition(":")[2])
    monkeypatch.setattr(dist, "rendezvous", lambda url, timeout: iter([(store, None, None)]))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    return store


def test_processes_meet_at_a_store_of_their_attempt(shared: dist.Store):
    found: list[dist.Store] = []
    second = threading.Thread(
        target=lambda: found.append(process_group._store_of_this_attempt(SECOND, PATIENCE)),
        daemon=True,
    )
    second.start()
    time.sleep(0.3)
    assert second.is_alive() and found == [], "it waits for rank 0 of its own attempt"
    first = process_group._store_of_this_attempt(FIRST, PATIENCE)
    second.join(timeout=30)
    first.set("told", "by the first")
    assert found[0].get("told") == b"by the first"
    assert not shared.check(["told"])


def test_waiting_for_rank_0_has_a_timeout(shared: dist.Store):
    with pytest.raises(ConnectionRefusedError):
        process_group._store_of_this_attempt(SECOND, timedelta(seconds=1))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_waits_no_longer_than_the_environment_says(
    rank: int, monkeypatch: pytest.MonkeyPatch
):
    """The first process waits for the others, and they for the first."""
    monkeypatch.setenv("CLQ_MEETING_SECONDS", "1")
    info = RankInfo("--num-gpus", rank, 2, local_rank=0, node=rank, url=free_url())
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="within 0:00:01 .* CLQ_MEETING_SECONDS sets how long"):
        with process_group.process_group(info, None):
            pass
    assert time.monotonic() - start < 20


def test_the_wait_is_ten_minutes_unless_it_is_a_number_of_seconds():
    assert process_group.meeting_timeout({}) == timedelta(minutes=10)
    for text in ("", "0", "-1", "1.5", "soon", "9" * 12):
        with pytest.raises(ValueError, match=f"^CLQ_MEETING_SECONDS is '{text}'; it must be"):
            process_group.meeting_timeout({"CLQ_MEETING_SECONDS": text})


@pytest.mark.parametrize(
    "error", [dist.DistNetworkError("timed out\ntrace"), ConnectionRefusedError(111, "refused")]
)
def test_a_wait_for_nobody_ends_in_a_sentence(error: Exception, capsys, monkeypatch):
    monkeypatch.setattr(process_group, "_NOTICE_SECONDS", 0.01)
    info = dataclasses.replace(SECOND, url="tcp://nobody:1")
    with pytest.raises(TimeoutError, match="^process 1 of 2 did not meet .* tcp://nobody:1") as end:
        with process_group._meeting(info, PATIENCE):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
            time.sleep(0.2)
            raise error
    assert "\n" not in str(end.value) and "trace" not in str(end.value)
    assert "process 1 of 2 waits for the others at tcp://nobody:1" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL


def test_a_meeting_says_nothing(capsys: pytest.CaptureFixture[str]):
    with process_group._meeting(FIRST, PATIENCE):
        pass
    assert capsys.readouterr().err == ""
