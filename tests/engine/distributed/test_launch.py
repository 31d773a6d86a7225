"""Launching the processes of a run on CPU, and joining those of torchrun and srun."""

import importlib
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm

import train_net
from clq.checkpoint.output_dir import find_last
from clq.engine import launch, user_errors
from clq.engine.distributed import process_group
from clq.engine.distributed.cluster_env import RankInfo
from clq.engine.distributed.launch import run_in_process_group
from reference.tiny import TinyData, command_line, free_url, parse, start_training

pytestmark = pytest.mark.usefixtures("cpu_only")
# The package `clq.engine` has a function of that name.
launching = importlib.import_module("clq.engine.distributed.launch")


@pytest.mark.parametrize("num_processes", [0, 1])
def test_one_process_is_this_one(num_processes: int):
    assert launch(sum, num_processes, dist_url="", on_cuda=False, args=([1, 2],)) == 3


def test_more_processes_than_gpus_are_rejected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--num-gpus is 2, but this machine has 1 GPUs"):
        launch(print, 2, dist_url=free_url(), on_cuda=True)


@pytest.mark.parametrize(
    ("dist_url", "reason"),
    [
        ("127.0.0.1:2345", "it is not of the form tcp://host:port"),
        ("tcp://127.0.0.1", "it is not of the form tcp://host:port"),
        ("tcp://127.0.0.1:0", "it is not of the form tcp://host:port"),
        ("tcp://127.0.0.1:99999", "Port out of range 0-65535"),
    ],
)
@pytest.mark.parametrize("machine_rank", [0, 1])
def test_an_invalid_address_is_rejected(dist_url: str, reason: str, machine_rank: int):
    with pytest.raises(ValueError) as error:
        where = {"num_machines": 2, "machine_rank": machine_rank}
        launch(print, 1, **where, dist_url=dist_url, on_cuda=False)
    sentence = f"the processes can't meet at {dist_url} ({reason}); name a free port, such as "
    assert str(error.value).startswith(sentence)


def test_a_port_in_use_is_rejected_on_the_first_node(monkeypatch: pytest.MonkeyPatch):
    def started(*args: Any, **how: Any) -> None:
        raise InterruptedError("started")

    monkeypatch.setattr(torch.multiprocessing, "spawn", started)
    dist_url = free_url()
    where: dict[str, Any] = {"num_machines": 2, "dist_url": dist_url, "on_cuda": False}
    with pytest.raises(InterruptedError, match="started"):
        launch(print, 1, machine_rank=0, **where)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(dist_url.rpartition(":")[2])))
        taken.listen()
        with pytest.raises(ValueError, match=f"can't meet at {dist_url} .Address already in use"):
            launch(print, 1, machine_rank=0, **where)
        with pytest.raises(InterruptedError, match="started"):  # the first node listens there
            launch(print, 1, machine_rank=1, **where)


@pytest.mark.parametrize("machine_rank", [-1, 2])
def test_a_node_index_out_of_range_is_rejected(machine_rank: int):
    with pytest.raises(ValueError, match=f"--machine-rank is {machine_rank}, but the 2 machines"):
        launch(
            print, 1, num_machines=2, machine_rank=machine_rank, dist_url=free_url(), on_cuda=False
        )


class Group:
    """Fake process group of five processes, three on the first of two nodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        self.waits: list[float] = []
        monkeypatch.setattr(dist, "init_process_group", self.start)
        monkeypatch.setattr(dist, "destroy_process_group", lambda: self.note("destroy"))
        monkeypatch.setattr(dist, "new_group", tuple)
        monkeypatch.setattr(process_group, "_store_of_this_attempt", lambda info: "store")
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
        monkeypatch.setattr(comm, "all_gather", lambda machine: [0, 1, 0, 1, 0])
        monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: self.note(f"{count} threads"))
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
        monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: self.note(f"GPU {gpu}"))
        monkeypatch.setattr(user_errors.time, "sleep", self.waits.append)

    def note(self, call: Any) -> None:
        self.calls.append(call)

    def start(self, **how: Any) -> None:
        where = how["init_method"] or how["store"]
        self.note((how["backend"], where, how["rank"], how["world_size"]))

    def main(self) -> None:
        self.note(comm._LOCAL_PROCESS_GROUP)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    return Group(monkeypatch)


@pytest.mark.parametrize(
    ("on_cuda", "device", "backend"), [(False, "3 threads", "gloo"), (True, "GPU 1", "nccl")]
)
def test_ranks_count_over_nodes(on_cuda: bool, device: str, backend: str, group: Group):
    """The second of two processes on the second of three nodes."""
    first = RankInfo("--num-gpus", 2, 6, local_rank=0, node=1, url="url")
    launching._worker(1, group.main, 2, first, on_cuda, ())
    assert group.calls == [device, (backend, "url", 3, 6), (1, 3), "destroy"]


def test_variables_without_torchrun_use_the_rendezvous_of_pytorch(
    group: Group, monkeypatch: pytest.MonkeyPatch
):
    """No agent serves the store then."""
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    info = RankInfo("torchrun", 4, 5, local_rank=2, node=0, url="env://")
    run_in_process_group(group.main, info, on_cuda=False)
    assert group.calls[0] == ("gloo", "env://", 4, 5)


@pytest.mark.parametrize(
    ("on_cuda", "start"),
    [(False, [("gloo", "store", 4, 5)]), (True, ["GPU 2", ("nccl", "store", 4, 5)])],
)
def test_a_process_of_torchrun_joins_the_others(
    on_cuda: bool, start: list[Any], group: Group, monkeypatch: pytest.MonkeyPatch
):
    """The last of three processes on its node, whose ranks are not contiguous."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    info = RankInfo("torchrun", 4, 5, local_rank=2, node=0, url="env://")
    assert run_in_process_group(group.main, info, on_cuda=on_cuda) is None
    assert group.calls == [*start, (0, 2, 4), "destroy"]


def test_more_processes_of_torchrun_than_gpus_are_rejected(
    group: Group, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    info = RankInfo("torchrun", 4, 5, local_rank=2, node=0, url="env://")
    with pytest.raises(ValueError) as error:
        run_in_process_group(group.main, info, on_cuda=True)
    assert str(error.value) == (
        "LOCAL_RANK is 2, but this machine has 2 GPUs; start at most one process for each."
    )
    assert group.calls == []


@pytest.mark.parametrize(("count", "gpu"), [(1, 0), (2, 0), (4, 2)])
def test_a_task_of_srun_uses_a_visible_gpu(
    count: int, gpu: int, group: Group, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    info = RankInfo("srun", 4, 5, local_rank=2, node=0, url=free_url())
    run_in_process_group(group.main, info, on_cuda=True)
    assert group.calls[:2] == [f"GPU {gpu}", ("nccl", info.url, 4, 5)]


def test_a_port_of_srun_in_use_is_rejected_on_the_first_node(group: Group):
    url = free_url()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        taken.listen()
        run_in_process_group(
            group.main, RankInfo("srun", 4, 5, local_rank=2, node=0, url=url), on_cuda=False
        )
        assert group.calls.pop() == "destroy"
        with pytest.raises(ValueError) as error:
            run_in_process_group(
                group.main, RankInfo("srun", 0, 5, local_rank=0, node=0, url=url), on_cuda=False
            )
    assert re.fullmatch(
        rf"the processes can't meet at {url} \(Address already in use\); name a free port, such as "
        r"MASTER_PORT=\d+.",
        str(error.value),
    )


def test_torchrun_with_one_process_is_a_plain_run(group: Group):
    info = RankInfo("torchrun", 0, 1, local_rank=0, node=0, url="env://")
    assert run_in_process_group(sum, info, on_cuda=True, args=([1, 2],)) == 3
    assert group.calls == []


def test_a_process_that_lost_a_peer_reports_later(group: Group):
    def lose() -> None:
        raise RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:16574.")

    def fail() -> None:
        raise ValueError("of this process")

    first = RankInfo("--num-gpus", 0, 2, local_rank=0, node=0, url="url")
    with pytest.raises(RuntimeError, match="pair.cc"):
        launching._worker(1, lose, 2, first, False, ())
    assert group.waits == [10] and group.calls[-1] == "destroy"
    with pytest.raises(ValueError, match="of this process"):
        launching._worker(1, fail, 2, first, False, ())
    assert group.waits == [10] and group.calls[-1] == "destroy"


def test_a_signal_to_the_launcher_saves_once_and_training_resumes(
    tiny_data: TinyData, tmp_path: Path
):
    flags = ["--num-gpus", "2", "--dist-url", free_url()]
    keys = {"SOLVER.MAX_ITER": 100_000, "SOLVER.CHECKPOINT_PERIOD": 4}
    process = start_training(command_line(tiny_data, tmp_path, *flags, keys=keys))
    while not (tmp_path / "last_checkpoint").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and b"Traceback" not in stderr
    last = find_last(tmp_path)
    assert last is not None and last.path.name == (tmp_path / "last_checkpoint").read_text()
    done = torch.load(last.path)["trainer"]["iteration"] + 1
    keys["SOLVER.MAX_ITER"] = done + 1
    train_net.main(parse(command_line(tiny_data, tmp_path, "--resume", keys=keys)))
    assert torch.load(tmp_path / "model_final.pth")["trainer"]["iteration"] == done
