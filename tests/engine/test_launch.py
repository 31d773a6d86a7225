"""Processes of a run on CPU: who knows whom, and that they train as one."""

import importlib
import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils import comm

import train_net
from clq.checkpoint import find_last
from clq.engine import launch
from reference import workers
from reference.tiny import TinyData, command_line, free_url, parse, start_training, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")


@pytest.mark.parametrize("num_processes", [0, 1])
def test_one_process_is_this_one(num_processes: int):
    assert launch(sum, num_processes, dist_url="", on_cuda=False, args=([1, 2],)) == 3


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
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
def test_an_address_that_is_none_is_refused(dist_url: str, reason: str, machine_rank: int):
    with pytest.raises(ValueError) as error:
        where = {"num_machines": 2, "machine_rank": machine_rank}
        launch(print, 1, **where, dist_url=dist_url, on_cuda=False)
    sentence = f"the processes can't meet at {dist_url} ({reason}); name a free port, such as "
    assert str(error.value).startswith(sentence)


def test_a_port_in_use_is_refused_where_it_is_listened_at(monkeypatch: pytest.MonkeyPatch):
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
        with pytest.raises(InterruptedError, match="started"):  # another machine listens there
            launch(print, 1, machine_rank=1, **where)


@pytest.mark.parametrize("machine_rank", [-1, 2])
def test_an_index_of_no_machine_is_refused(machine_rank: int):
    with pytest.raises(ValueError, match=f"--machine-rank is {machine_rank}, but the 2 machines"):
        launch(
            print, 1, num_machines=2, machine_rank=machine_rank, dist_url=free_url(), on_cuda=False
        )


def test_ranks_count_over_machines(monkeypatch: pytest.MonkeyPatch):
    """The second of two processes on the second of three machines."""
    module = importlib.import_module("clq.engine.launch")
    started: dict[str, Any] = {}
    monkeypatch.setattr(module.dist, "init_process_group", lambda **how: started.update(how))
    monkeypatch.setattr(module.dist, "destroy_process_group", lambda: started.update(ended=True))
    monkeypatch.setattr(module.dist, "new_group", tuple)
    monkeypatch.delattr(comm, "create_local_process_group", raising=False)
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    module._worker(
        1, lambda: started.update(group=comm._LOCAL_PROCESS_GROUP), 2, 3, 1, "url", False, ()
    )
    assert (started["rank"], started["world_size"], started["group"]) == (3, 6, (2, 3))
    assert (started["backend"], started["init_method"], started["ended"]) == ("gloo", "url", True)


def run_worker(main: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Run a worker by itself, which must fail; how long it waits before it does."""
    module = importlib.import_module("clq.engine.launch")
    waits: list[float] = []
    for name in ("init_process_group", "destroy_process_group", "new_group"):
        monkeypatch.setattr(module.dist, name, lambda *args, **how: None)
    monkeypatch.setattr(module, "_create_local_process_group", lambda *args: None)
    monkeypatch.setattr(module.time, "sleep", waits.append)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    with pytest.raises(RuntimeError, match="pair.cc"):
        module._worker(0, main, 2, 1, 0, "url", False, ())
    return waits


def test_a_process_that_lost_another_lets_that_one_speak_first(monkeypatch: pytest.MonkeyPatch):
    def lose() -> None:
        raise RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:16574.")

    def fail() -> None:
        raise RuntimeError("[pair.cc:561] of our own making")

    assert run_worker(lose, monkeypatch) == [10]
    assert run_worker(fail, monkeypatch) == []


@pytest.fixture(scope="module")
def same_size(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Two training images of one size, so that a batch needs no padding; the second is empty."""
    folder = tmp_path_factory.mktemp("same_size")
    return TinyData(
        train=write_pair(folder, "train", num_images=2, seed=5, sizes=((64, 96),)),
        val=write_pair(folder, "val", num_images=3, seed=6),
    )


# Each step sees both images, whoever gets which; nothing depends on the batch but the losses.
SAME_STEPS: dict[str, Any] = {
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MAX_ITER": 3,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "INPUT.RANDOM_FLIP": "none",
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
}


def test_two_processes_train_as_one(same_size: TinyData, tmp_path: Path):
    """The same weights on both processes, and those that one process reaches with the same data.

    The second holds only if the losses are normalised by the mean over processes: with the empty
    image on a process of its own, any other normaliser changes the gradient.
    """
    first = command_line(same_size, tmp_path / "start", keys={**SAME_STEPS, "SOLVER.MAX_ITER": 1})
    train_net.main(parse(first))
    keys = {**SAME_STEPS, "MODEL.WEIGHTS": tmp_path / "start" / "model_final.pth"}
    alone, together = (
        parse(command_line(same_size, tmp_path / name, keys=keys)) for name in ("one", "two")
    )
    launch(workers.train, 1, dist_url="", on_cuda=False, args=(alone,))
    launch(workers.train, 2, dist_url=free_url(), on_cuda=False, args=(together,))

    one = torch.load(tmp_path / "one" / "rank0.pth")
    two = [torch.load(tmp_path / "two" / f"rank{rank}.pth") for rank in range(2)]
    assert [run["place"] for run in (one, *two)] == [(0, 1, 0, 1), (0, 2, 0, 2), (1, 2, 1, 2)]
    assert [len(run["seen"]) for run in (one, *two)] == [6, 3, 3]
    assert set(one["seen"]) == {10, 17}
    for pair in zip(two[0]["seen"], two[1]["seen"], strict=True):
        assert set(pair) == {10, 17}, "the processes of a step share out the images"
    start = torch.load(tmp_path / "start" / "model_final.pth")["model"]
    moved = [name for name, weight in one["weights"].items() if not weight.equal(start[name])]
    assert len(moved) > 50
    for name, weight in two[0]["weights"].items():
        assert weight.equal(two[1]["weights"][name]), name
        torch.testing.assert_close(weight, one["weights"][name], rtol=1e-4, atol=1e-6, msg=name)

    # The evaluation shares out the images too, and the main process writes what all of them found.
    weights = {"MODEL.WEIGHTS": tmp_path / "two" / "model_final.pth"}
    again = command_line(same_size, tmp_path / "again", "--eval-only", keys={**keys, **weights})
    train_net.main(parse(again))
    found = detections(tmp_path / "two")
    assert {detection["image_id"] for detection in found} == {10, 17, 24}
    assert found == detections(tmp_path / "again")


def detections(output: Path) -> list[dict[str, Any]]:
    """What the evaluation of a run found, in the order of the images."""
    found = json.loads((output / "inference" / "val" / "coco_instances_results.json").read_text())
    return sorted(found, key=lambda detection: (detection["image_id"], -detection["score"]))


def test_a_signal_to_the_launcher_saves_once_and_goes_on(tiny_data: TinyData, tmp_path: Path):
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
