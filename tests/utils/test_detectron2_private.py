"""Private names of Detectron2 still mean what CLQ takes them for."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.engine import DefaultTrainer, SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from clq.utils.detectron2_private import data_iterator, set_local_process_group, stored_images


def test_a_trainer_takes_its_batches_from_the_iterator():
    model = nn.Linear(1, 1)
    batches = [torch.ones(2, 1), torch.zeros(2, 1)]
    trainer = SimpleTrainer(model, batches, torch.optim.SGD(model.parameters(), lr=0.1))
    assert data_iterator(trainer) is data_iterator(trainer)
    assert next(data_iterator(trainer)) is batches[0]
    with EventStorage(), pytest.MonkeyPatch.context() as patch:
        seen: list[torch.Tensor] = []
        patch.setattr(model, "forward", lambda batch: seen.append(batch) or model.weight.sum())
        trainer.run_step()
    assert seen[0] is batches[1]


def test_default_trainer_runs_the_step_of_its_inner_trainer():
    steps: list[int] = []

    class Inner:
        model, iter = "model", 0

        def run_step(self) -> None:
            steps.append(self.iter)

    trainer = object.__new__(DefaultTrainer)
    trainer._trainer, trainer.iter = Inner(), 7
    trainer.run_step()
    assert steps == [7] and trainer.model == "model"


def test_images_stay_in_the_storage_until_they_are_cleared():
    image = np.zeros((3, 4, 5), np.uint8)
    storage = EventStorage(start_iter=6)
    storage.put_image("a", image)
    ((name, stored, iteration),) = stored_images(storage)
    assert (name, iteration) == ("a", 6) and stored is image
    storage.clear_images()
    assert len(stored_images(storage)) == 0


def test_the_local_rank_is_that_in_the_local_process_group(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda group: {"local": 3}[group])
    monkeypatch.setattr(dist, "get_world_size", lambda group: {"local": 4}[group])
    set_local_process_group("local")
    assert (comm.get_local_rank(), comm.get_local_size()) == (3, 4)
