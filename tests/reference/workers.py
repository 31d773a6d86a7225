"""Functions that the processes of a test run; a starting process finds them here by name."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor, nn

from clq.engine import CLQTrainer, RunOptions, setup
from clq.modeling.loss_normalizer import LossSums, normalize
from reference.family import MEMBERS
from reference.members import losses_of

Batch = list[dict[str, Any]]
Runs = dict[str, RunOptions]
EXCHANGES = ("all_reduce", "all_gather", "all_gather_object", "barrier", "broadcast", "gather")


def run_all(folder: Path, runs: Runs) -> None:
    """All that a test wants to know of two processes, in one start of them.

    Each process writes what it saw to ``folder/<name><rank>.pth``.

    Args:
        folder: for the files.
        runs: arguments of trainings.
    """
    rank = comm.get_rank()
    torch.save(normalized(), folder / f"normalized{rank}.pth")
    torch.save(family_losses(), folder / f"family{rank}.pth")
    for name, args in runs.items():
        seen = train(args, PREPARED[name]) if name in PREPARED else train(args)
        torch.save(seen, folder / f"{name}{rank}.pth")


def normalized() -> dict[str, dict[str, float]]:
    """Losses of known sums, whose counts differ between the processes."""
    rank = comm.get_rank()
    sums = LossSums(
        {"a": torch.tensor((7.0, 14.0))[rank]},
        {"b": torch.tensor((1.0, -2.0))[rank]},
        num_samples=torch.tensor(3.0 + rank),
        weight_sum=torch.tensor(0.5 * rank),
    )
    micro_batch = {"num_samples": torch.tensor(14.0), "num_micro_batches": 2}
    cases: dict[str, dict[str, Any]] = {"whole": {}, "part": micro_batch}
    return {
        case: {name: loss.item() for name, loss in normalize(sums, **options).items()}
        for case, options in cases.items()
    }


def family_losses() -> dict[str, dict[str, Tensor]]:
    """The losses of each member of the family on two images, of which each process has one.

    The first process has the image with objects, the second that without.
    """
    rank = comm.get_rank()
    return {member: losses_of(member, slice(rank, rank + 1)) for member in MEMBERS}


def train(
    args: RunOptions, prepare: Callable[[CLQTrainer], None] = lambda trainer: None
) -> dict[str, Any]:
    """Train as train_net.py does; this process's weights, images, place and end.

    Args:
        args: of the command line.
        prepare: changes the trainer before it starts.
    """
    trainer = CLQTrainer(setup(args))
    seen: list[int] = []

    def note_images(model: nn.Module, batch: tuple) -> None:
        if model.training:
            seen.extend(image["image_id"] for image in batch[0])

    trainer.model.register_forward_pre_hook(note_images)
    trainer.resume_or_load(resume=args.resume)
    prepare(trainer)
    exchanges = count_exchanges(trainer)
    end = ""
    try:
        trainer.train()
    except (FloatingPointError, SystemExit) as error:
        end = str(error)
    return {
        "weights": trainer.checkpointer.model.state_dict(),
        "average": trainer._ema.model.state_dict() if trainer._ema else {},
        "seen": seen,
        "place": (
            *(comm.get_rank(), comm.get_world_size()),
            *(comm.get_local_rank(), comm.get_local_size()),
        ),
        "start_method": torch.multiprocessing.get_start_method(),
        "end": end,
        "iteration": trainer.iter,
        "exchanges": exchanges,
    }


def count_exchanges(trainer: CLQTrainer) -> list[list[str]]:
    """Collectives that Python code calls in each step."""
    steps: list[list[str]] = []
    run_step = trainer._trainer.run_step

    def counted() -> None:
        steps.append([])
        with pytest.MonkeyPatch.context() as patch:
            for name in EXCHANGES:
                patch.setattr(dist, name, _noting(name, getattr(dist, name), steps[-1]))
            run_step()

    trainer._trainer.run_step = counted
    return steps


def _noting(name: str, exchange: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def noted(*args: Any, **options: Any) -> Any:
        calls.append(name)
        return exchange(*args, **options)

    return noted


def on_the_second(change: Callable[[Batch, int], Batch | None]) -> Callable[[CLQTrainer], None]:
    """Change what the second process trains on, by the batch and the number of the step."""

    def prepare(trainer: CLQTrainer) -> None:
        def changed(model: nn.Module, args: tuple[Batch]) -> tuple[Batch] | None:
            batch = change(args[0], trainer.iter) if model.training else None
            return None if batch is None else (batch,)

        if comm.get_rank() == 1:
            trainer.model.register_forward_pre_hook(changed)

    return prepare


def without_objects(batch: Batch, step: int) -> Batch:
    return [{**sample, "instances": sample["instances"][:0]} for sample in batch]


def not_a_number_in_step_1(batch: Batch, step: int) -> Batch | None:
    if step != 1:
        return None
    return [{**sample, "image": sample["image"] * float("nan")} for sample in batch]


def signal_in_step_1(batch: Batch, step: int) -> None:
    if step == 1:
        os.kill(os.getpid(), signal.SIGTERM)


# Trainings in which the second process differs.
PREPARED = {
    "empty": on_the_second(without_objects),
    "nonfinite": on_the_second(not_a_number_in_step_1),
    "signal": on_the_second(signal_in_step_1),
}
