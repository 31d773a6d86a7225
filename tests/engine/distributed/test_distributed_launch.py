"""The same training by two processes on CPU, started by torchrun, srun and --num-gpus."""

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import train_net
from clq.engine import launch
from reference.tiny import KEYS, ROOT, TinyData, free_url, options, parse, start_training

# Trained batch norms would have different statistics in each process.
RUN_KEYS = {
    **KEYS,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.ALLOW_FROZEN_RANDOM": True,
    "SOLVER.MAX_ITER": 30,
    "SOLVER.CHECKPOINT_PERIOD": 5,
}


def documented_line(data: TinyData, output: Path) -> tuple[list[str], list[str]]:
    """Read the torchrun command of docs/multi-gpu.md.

    Returns:
        Arguments of Python, and those of train_net.py with the data and keys of the test.
    """
    text = (ROOT / "docs" / "multi-gpu.md").read_text()
    line = text.split("\n```\n.venv/bin/torchrun")[1].split("\n```")[0]
    words = shlex.split(line.replace("\\\n", " "))
    here = words.index("train_net.py")
    folder = f"{data.train.json_file.parent}/"
    arguments = [word.replace("data/", folder) for word in words[here + 1 :]]
    keys = options({**RUN_KEYS, "OUTPUT_DIR": output})
    return ["-m", "torch.distributed.run", *words[:here]], [*arguments, *keys]


def start_tasks(arguments: list[str]) -> list[subprocess.Popen]:
    """Start two tasks on this node as srun does."""
    port = free_url().rpartition(":")[2]
    common = {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NODEID": "0",
        "MASTER_PORT": port,
    }
    return [
        start_training(arguments, variables={**common, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        for rank in "01"
    ]


def kill_main_process(run: subprocess.Popen, output: Path) -> None:
    """Kill rank 0 once there is a checkpoint; its process id is in the name of the events file.

    Detectron2's main creates that file only with the first metrics.
    """
    deadline = time.monotonic() + 120
    events: list[Path] = []
    while not (events and (output / "last_checkpoint").exists()):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
        events = list(output.glob("events.out.tfevents.*"))
    os.kill(int(events[0].name.split(".")[-2]), signal.SIGKILL)


@pytest.fixture(scope="module")
def folder(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the outputs of one training by each launcher; that of torchrun is killed once."""
    folder = tmp_path_factory.mktemp("launches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        launcher, arguments = documented_line(tiny_data, folder / "torchrun")
        torchrun = start_training(arguments, launcher=launcher)
        tasks = start_tasks(documented_line(tiny_data, folder / "srun")[1])
        try:
            kill_main_process(torchrun, folder / "torchrun")
            args = parse(documented_line(tiny_data, folder / "num_gpus")[1])
            launch(train_net.main, 2, dist_url=free_url(), on_cuda=False, args=(args,))
            for process in (torchrun, *tasks):
                _, stderr = process.communicate(timeout=120)
                assert process.returncode == 0, stderr.decode()
        finally:
            for process in (torchrun, *tasks):
                process.terminate()  # torchrun terminates its own
    return folder


def metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


def files(output: Path) -> list[str]:
    """List the files, except for TensorBoard's, of which each start adds one."""
    names = {path.name for path in output.iterdir()}
    return sorted(name for name in names if not name.startswith("events.out"))


def test_a_killed_training_resumes_by_itself(folder: Path):
    log = (folder / "torchrun" / "log.txt").read_text()
    assert log.count("torchrun has started the processes anew, so the training resumes") == 1
    assert log.count("Rank of current process: 0. World size: 2") == 2
    assert "Starting training from iteration 0" in log
    assert log.count("Starting training from iteration ") == 2
    assert (folder / "torchrun" / "model_final.pth").is_file()


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_every_launcher_trains_the_same(launcher: str, folder: Path):
    ours, expected = folder / launcher, folder / "num_gpus"
    assert (ours / "results.json").read_text() == (expected / "results.json").read_text()
    models = [torch.load(output / "model_final.pth")["model"] for output in (ours, expected)]
    torch.testing.assert_close(*models, rtol=0, atol=0)


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_every_launcher_leaves_the_same_files(launcher: str, folder: Path):
    own = [".torchrun"] if launcher == "torchrun" else []
    assert files(folder / launcher) == sorted([*files(folder / "num_gpus"), *own])
    iterations = [line["iteration"] for line in metrics(folder / launcher)]
    assert len(iterations) == len(set(iterations)) >= 3
    assert iterations == [line["iteration"] for line in metrics(folder / "num_gpus")]


def test_processes_know_their_ranks(folder: Path):
    for launcher in ("torchrun", "srun", "num_gpus"):
        log = (folder / launcher / "log.txt.rank1").read_text()
        assert "Rank of current process: 1. World size: 2" in log
        assert log.count("Running on CPU with 1 threads") >= 1
