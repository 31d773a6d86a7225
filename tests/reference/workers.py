"""What the processes of a test run: found by name where a process starts, so not in a test file."""

import argparse
from pathlib import Path

import torch
from detectron2.utils import comm
from torch import nn

from clq.engine import CLQTrainer, setup
from clq.modeling.normalizer import mean_over_processes
from reference.family import MEMBERS
from reference.members import losses_of


def save_mean(folder: Path) -> None:
    """Average (1, 10) on the first process with (4, -2) on the second."""
    values = torch.tensor(((1.0, 10.0), (4.0, -2.0))[comm.get_rank()], requires_grad=True)
    mean = mean_over_processes(values)
    torch.save({"mean": mean, "values": values}, folder / f"mean{comm.get_rank()}.pth")


def save_losses(folder: Path) -> None:
    """The losses of each member of the family on two images, of which each process has one.

    The first process has the image with objects, the second that without.
    """
    for member in MEMBERS:
        losses = losses_of(member, slice(comm.get_rank(), comm.get_rank() + 1))
        torch.save(losses, folder / f"{member}{comm.get_rank()}.pth")


def train(args: argparse.Namespace) -> None:
    """Train as train_net.py does; write this process's weights, images and place among others."""
    cfg = setup(args)
    trainer = CLQTrainer(cfg)
    seen: list[int] = []

    def note_images(model: nn.Module, batch: tuple) -> None:
        if model.training:
            seen.extend(image["image_id"] for image in batch[0])

    trainer.model.register_forward_pre_hook(note_images)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    weights = getattr(trainer.model, "module", trainer.model).state_dict()
    place = (comm.get_rank(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size())
    path = Path(cfg.OUTPUT_DIR, f"rank{comm.get_rank()}.pth")
    torch.save({"weights": weights, "seen": seen, "place": place}, path)
