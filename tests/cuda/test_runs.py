"""Whole runs on a GPU: training, killed and resumed, NCCL, evaluation, prediction."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import train_net
from benchmarks.common import run_apart
from clq.checkpoint import write_detector
from clq.config.serialize import dump_config
from clq.engine import TrainingStep
from clq.engine.distributed.cluster_env import RankInfo
from clq.engine.distributed.process_group import process_group
from clq.prediction.predictor import Predictor
from reference.devices import running_on
from reference.killing import Killed, curve
from reference.members import build
from reference.mmdet_style import random_detector, small_config
from reference.tiny import TinyData, command_line, free_url, parse

pytestmark = pytest.mark.on_cuda

DEVICE = "cuda"
KEYS: dict[str, Any] = {
    "MODEL.DEVICE": DEVICE,
    "SOLVER.MAX_ITER": 30,
    "SOLVER.CHECKPOINT_PERIOD": 5,
    "SOLVER.WARMUP_ITERS": 10,
}


def train(data: TinyData, output: Path, *flags: str, **keys: Any) -> None:
    train_net.main(parse(command_line(data, output, *flags, keys={**KEYS, **keys})))


def last_loss(output: Path) -> float:
    return [line["total_loss"] for line in curve(output) if "total_loss" in line][-1]


@pytest.fixture(scope="module")
def unbroken(tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    train(tiny_data, output)
    return output


@pytest.mark.parametrize("precision", ("fp32", "bf16", "fp16"))
def test_a_killed_training_goes_on(
    precision: str,
    unbroken: Path,
    tiny_data: TinyData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Kernels of a GPU add in any order, so that the losses of two runs are close, not equal."""
    keys = {} if precision == "fp32" else {"SOLVER.AMP.ENABLED": True}
    if precision == "bf16":
        keys["SOLVER.AMP.PRECISION"] = "bfloat16"
    run_step, steps = TrainingStep.run_step, []

    def until_killed(step: TrainingStep) -> None:
        if len(steps) == 17:
            raise Killed
        steps.append(step)
        run_step(step)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TrainingStep, "run_step", until_killed)
        train(tiny_data, tmp_path, **keys)
    assert not (tmp_path / "model_final.pth").exists()
    train(tiny_data, tmp_path, "--resume", **keys)
    assert (tmp_path / "results.json").is_file()
    assert last_loss(tmp_path) == pytest.approx(last_loss(unbroken), rel=0.05)


def test_num_gpus_1(tiny_data: TinyData, tmp_path: Path):
    train(tiny_data, tmp_path, "--num-gpus", "1")
    assert (tmp_path / "results.json").is_file()


def steps_through_nccl(url: str) -> list[float]:
    """Losses of three steps in a process group of one, whose gradients NCCL averages."""
    place = RankInfo("--num-gpus", 0, 1, 0, 0, url)
    with running_on(torch.device(DEVICE)), process_group(place, 0):
        model = DistributedDataParallel(
            build("clq").train(), device_ids=[0], broadcast_buffers=False
        )
        return _losses_of_steps(model)


def steps_alone() -> list[float]:
    with running_on(torch.device(DEVICE)):
        return _losses_of_steps(build("clq").train())


def _losses_of_steps(model: torch.nn.Module) -> list[float]:
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    gt = Instances((64, 96), gt_boxes=Boxes(torch.tensor([[10.0, 10.0, 60.0, 50.0]])))
    gt.gt_classes = torch.zeros(1, dtype=torch.int64)
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255
    sample = {"image": image, "instances": gt, "file_name": "made"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    step = TrainingStep(model, [[sample]] * 3, optimizer)
    losses = []
    with EventStorage() as storage:
        for _ in range(3):
            step.run_step()
            losses.append(storage.latest()["total_loss"][0])
    return losses


def test_steps_through_nccl_are_those_of_one_process():
    assert run_apart(steps_through_nccl, free_url()) == pytest.approx(
        run_apart(steps_alone), rel=1e-4
    )


def test_evaluation_is_that_of_the_cpu(unbroken: Path, tiny_data: TinyData, tmp_path: Path):
    weights = str(unbroken / "model_final.pth")
    results = []
    for device in ("cpu", DEVICE):
        keys = {"MODEL.DEVICE": device, "MODEL.WEIGHTS": weights}
        train(tiny_data, tmp_path / device, "--eval-only", **keys)
        (metrics,) = json.loads((tmp_path / device / "results.json").read_text()).values()
        results.append([metrics[name] for name in ("AP", "AP50", "AR100")])
    assert results[1] == pytest.approx(results[0], abs=1.0)  # a detection may change places


def test_prediction_is_that_of_the_cpu(tmp_path: Path):
    cfg = small_config({"INPUT.MIN_SIZE_TEST": 80, "INPUT.MAX_SIZE_TEST": 120})
    path, names = tmp_path / "model.safetensors", ["arc", "bar", "cog", "dot", "elk"]
    write_detector(path, random_detector(cfg).state_dict(), dump_config(cfg), names)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    with running_on(torch.device(DEVICE)):
        expected, found = (
            Predictor.from_checkpoint(path, device)(image)["instances"].to("cpu")
            for device in ("cpu", DEVICE)
        )
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-5)
