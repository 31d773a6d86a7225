"""Checkpoints that an earlier commit wrote still load, evaluate to the same numbers and resume.

``model_0000399.pth`` is the state of a training run after 400 iterations of the tiny data set, and
``model_0000399.safetensors`` its detector.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import train_net
from clq.checkpoint import load_detector
from reference.tiny import CLASS_NAMES, TinyData, command_line, parse

pytestmark = pytest.mark.usefixtures("cpu_only")

FIXTURES = Path(__file__).parent / "fixtures"
FILES = ["model_0000399.pth", "model_0000399.safetensors"]
KEYS: dict[str, Any] = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 2,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 2,
    "SOLVER.BASE_LR": 0.004,
    # PyTorch 2.14 corrupts memory in the channels-last backward pass of so few channels, on CPUs
    # without AVX-512.
    "MODEL.CHANNELS_LAST": False,
}
# Recorded when the files were written.
RESULTS = {"AP": 24.20792079, "AP50": 41.74917492, "AP75": 33.33333333, "AR100": 25.0}
UPDATE = 2.1263568  # norm of what two more iterations change in the weights


@pytest.mark.parametrize("name", FILES)
def test_it_alone_gives_the_detector(name: str):
    model, class_names = load_detector(FIXTURES / name)
    assert class_names == CLASS_NAMES
    assert model.head.scales.shape == (5,)


@pytest.mark.parametrize("name", FILES)
def test_it_evaluates_to_the_recorded_numbers(name: str, tiny_data: TinyData, tmp_path: Path):
    keys = {**KEYS, "MODEL.WEIGHTS": FIXTURES / name}
    train_net.main(parse(command_line(tiny_data, tmp_path, "--eval-only", keys=keys)))
    results = json.loads((tmp_path / "results.json").read_text())["val"]
    assert {key: results[key] for key in RESULTS} == pytest.approx(RESULTS, rel=1e-6)


def test_the_training_run_resumes(tiny_data: TinyData, tmp_path: Path):
    shutil.copy(FIXTURES / "model_0000399.pth", tmp_path)
    keys = {**KEYS, "SOLVER.MAX_ITER": 402, "TEST.EVAL_PERIOD": 0}
    train_net.main(parse(command_line(tiny_data, tmp_path, "--resume", keys=keys)))
    before = torch.load(FIXTURES / "model_0000399.pth", weights_only=True)
    after = torch.load(tmp_path / "model_final.pth", weights_only=True)
    updates = [after["model"][n] - v for n, v in before["model"].items() if v.is_floating_point()]
    assert torch.stack([u.norm() for u in updates]).norm().item() == pytest.approx(UPDATE, rel=0.01)
    trainer = after["trainer"]
    assert trainer["iteration"] == 401
    steps = {int(state["step"]) for state in trainer["_trainer"]["optimizer"]["state"].values()}
    assert steps == {402}
