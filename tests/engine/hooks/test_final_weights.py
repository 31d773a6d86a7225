"""The file that a training leaves for inference."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from clq.checkpoint.read_file import read_file
from clq.engine.hooks.final_weights import WriteDetector


@pytest.mark.parametrize(("step", "written"), [(3, False), (4, True)])
def test_it_is_written_after_the_last_step(step: int, written: bool, tmp_path: Path):
    path, model = tmp_path / "model_final.safetensors", nn.Linear(2, 3)
    hook = WriteDetector(path, model, config="VERSION: 2\n", class_names=["a"])
    hook.trainer = SimpleNamespace(iter=step, max_iter=4)
    hook.after_train()
    assert path.exists() == written
    if written:
        content = read_file(path)
        assert (content["config"], content["class_names"]) == ("VERSION: 2\n", ["a"])
        assert content["model"]["weight"].equal(model.weight)


def test_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: False)
    hook = WriteDetector(tmp_path / "a.safetensors", nn.Linear(1, 1), config="", class_names=[])
    hook.trainer = SimpleNamespace(iter=4, max_iter=4)
    hook.after_train()
    assert not list(tmp_path.iterdir())
