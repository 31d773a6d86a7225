"""Where the processes of torchrun meet after a restart; the rest of it is in the launches."""

import dataclasses
import threading
import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from clq.engine.distributed import process_group
from clq.engine.distributed.cluster_env import Place
from reference.tiny import free_url

FIRST = Place("torchrun", 0, 2, local_rank=0, machine=0, url="env://")
SECOND = dataclasses.replace(FIRST, rank=1, local_rank=1)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    """The store of torchrun, which still has the port of a process that has died."""
    store = dist.HashStore()
    store.set("clq/port", free_url().rpartition(":")[2])
    monkeypatch.setattr(dist, "rendezvous", lambda url, timeout: iter([(store, None, None)]))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    return store


def test_processes_meet_at_a_store_of_their_own_start(shared: dist.Store):
    found: list[dist.Store] = []
    second = threading.Thread(
        target=lambda: found.append(process_group._store_of_this_start(SECOND)), daemon=True
    )
    second.start()
    time.sleep(0.3)
    assert second.is_alive() and found == [], "it waits for the first process of its own start"
    first = process_group._store_of_this_start(FIRST)
    second.join(timeout=30)
    first.set("told", "by the first")
    assert found[0].get("told") == b"by the first"
    assert not shared.check(["told"])


def test_waiting_for_the_first_process_has_an_end(
    shared: dist.Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process_group, "_TIMEOUT", timedelta(seconds=1))
    with pytest.raises(ConnectionRefusedError):
        process_group._store_of_this_start(SECOND)
