"""Logging to Weights & Biases, against a fake of the optional package."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from detectron2.utils.events import EventStorage

from clq.config import get_clq_cfg
from clq.engine.hooks.wandb_writer import WandbWriter, check_wandb
from clq.utils.detectron2_private import stored_images


class Run:
    """A run of Weights & Biases, which accepts only increasing steps."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.logged: dict[int, dict[str, Any]] = {}
        self.is_finished = False

    def log(self, content: dict[str, Any], step: int) -> None:
        assert step >= self.step
        self.step = step + 1
        self.logged[step] = content

    def finish(self) -> None:
        self.is_finished = True


class Service(ModuleType):
    """The package ``wandb``, with the last step of each run by its id."""

    Error = type("Error", (Exception,), {})

    def __init__(self) -> None:
        super().__init__("wandb")
        self.asked: list[dict[str, Any]] = []
        self.steps: dict[str, int] = {}
        self.error_text = ""

    def Image(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.ndim == 3 and pixels.shape[2] == 3
        return pixels

    def init(self, **options: Any) -> Run:
        if self.error_text:
            raise self.Error(self.error_text)
        self.asked.append(options)
        return Run(self.steps.get(options["id"], 0))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)
    return service


def writer_in(folder: Path, **keys: Any) -> WandbWriter:
    cfg = get_clq_cfg()
    cfg.merge_from_list(
        ["OUTPUT_DIR", str(folder), *(x for k, v in keys.items() for x in (f"WANDB.{k}", v))]
    )
    return WandbWriter(cfg)


def test_scalars_are_smoothed_and_images_logged(service: Service, tmp_path: Path):
    writer = writer_in(tmp_path)
    image = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    with EventStorage() as storage:
        for iteration, loss in enumerate([9.0, 1.0, 5.0, 7.0]):
            storage.iter = iteration
            storage.put_scalar("loss", loss)
            if iteration == 1:
                storage.put_scalar("bbox/AP", 30.5, smoothing_hint=False)
                storage.put_image("predictions/a.png", image)
            if iteration >= 2:
                writer.write()
        storage.put_scalar("bbox/AP", 31.5, smoothing_hint=False)
        writer.write()  # iteration 3 is written already
        assert len(stored_images(storage)) == 1, "TensorBoard's writer clears them"
    logged = writer._run.logged
    assert list(logged) == [1, 2, 3]
    shown = logged[1].pop("predictions/a.png")
    assert shown.shape == (4, 5, 3) and shown[1, 2].tolist() == image[:, 1, 2].tolist()
    assert logged == {1: {"bbox/AP": 30.5}, 2: {"loss": 5.0}, 3: {"loss": 6.0}}
    writer.close()
    assert writer._run.is_finished


def test_the_run_follows_the_config(service: Service, tmp_path: Path):
    writer_in(tmp_path, PROJECT="trees", NAME="first try")
    (asked,) = service.asked
    run_id = (tmp_path / "wandb_id").read_text()
    config = asked.pop("config")
    assert config.SOLVER.MAX_ITER == get_clq_cfg().SOLVER.MAX_ITER
    assert asked == {
        "project": "trees",
        "name": "first try",
        "dir": str(tmp_path),
        "id": run_id,
        "resume": "allow",
    }
    writer_in(tmp_path / "other")
    assert service.asked[1]["name"] is None and service.asked[1]["id"] != run_id


def test_a_resumed_training_continues_its_run(service: Service, tmp_path: Path):
    """And does not repeat what it logged between its checkpoint and the kill."""
    writer_in(tmp_path)
    service.steps[service.asked[0]["id"]] = 3
    (tmp_path / "model_0000001.pth").touch()
    writer = writer_in(tmp_path)
    assert service.asked[1]["id"] == service.asked[0]["id"]
    with EventStorage(2) as storage:
        for storage.iter in range(2, 5):
            storage.put_scalar("loss", 1.0 + storage.iter, smoothing_hint=False)
            writer.write()
    assert writer._run.logged == {3: {"loss": 4.0}, 4: {"loss": 5.0}}


def test_a_new_training_starts_a_new_run(service: Service, tmp_path: Path):
    """Even where an earlier one in the same folder has left no checkpoint."""
    for _ in range(2):
        writer_in(tmp_path)
    ids = [asked["id"] for asked in service.asked]
    assert len(set(ids)) == 2 and (tmp_path / "wandb_id").read_text() == ids[1]


def test_an_error_of_the_service_is_one_sentence(service: Service, tmp_path: Path):
    service.error_text = "No API key configured.\nUse `wandb login` to log in."
    with pytest.raises(ValueError) as error:
        writer_in(tmp_path)
    assert str(error.value) == (
        "Weights & Biases can't be used (No API key configured. Use `wandb login` to log in); run "
        "`wandb login`, or set the environment variable WANDB_MODE to offline."
    )


@pytest.mark.parametrize("found", [None, ModuleType("wandb")], ids=["nothing", "a folder of runs"])
def test_a_missing_package_gives_the_command_to_install_it(
    found: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "wandb", found)
    with pytest.raises(ValueError) as error:
        check_wandb()
    assert str(error.value) == (
        "WANDB.ENABLED is True, but Weights & Biases is not installed: run `pip install wandb`."
    )


def test_an_installed_package_passes(service: Service):
    check_wandb()
