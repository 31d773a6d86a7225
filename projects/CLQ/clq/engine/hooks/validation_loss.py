"""Losses on the validation data."""

import functools
import operator
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import build_augmentation
from detectron2.evaluation import inference_context
from detectron2.utils import comm
from torch import nn

from ...data import CLQMapper, TestLoader
from ...data.records import load_records
from ...modeling.loss_normalizer import LossAccumulator


def validation_batches(cfg: CfgNode) -> TestLoader:
    """Load the images of all ``DATASETS.TEST`` with their objects, resized as for inference.

    Raises:
        ValueError: an image has no annotations, not even an empty list.
    """
    records = load_records(cfg.DATASETS.TEST)
    for record in records:
        if "annotations" not in record:
            raise ValueError(
                "TEST.VALIDATION_LOSS needs annotations, but DATASETS.TEST has none of "
                f"{record['file_name']}; switch it off, or evaluate on labelled data."
            )
    resize = build_augmentation(cfg, is_train=False)
    return TestLoader(
        records,
        CLQMapper(cfg, is_train=True, augmentations=resize),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
    )


@torch.no_grad()
def validation_losses(
    model: nn.Module, batches: Iterable[list[dict[str, Any]]]
) -> dict[str, float]:
    """Compute the losses of a whole data set, for any batch size and number of processes.

    They are normalized once, by the counts of all images. Collective call, also of a process
    without images.

    Args:
        model: not wrapped; its layers are in evaluation mode, so that no statistics move.
        batches: this process's share of the data.

    Returns:
        The losses by name, and ``total_loss``, on rank 0; nothing on other ranks, nor without any
        image.
    """
    accumulator = LossAccumulator()
    with inference_context(model):
        model.training = True  # of the detector alone, so that it returns losses
        for batch in batches:
            model(batch, normalizer=accumulator)
    # Gathered as objects: a process without images does not know the names of the losses.
    gathered = comm.gather(accumulator.total and accumulator.total.cpu())
    totals = [sums for sums in gathered if sums is not None]
    if not totals:
        return {}
    total = functools.reduce(operator.add, totals)
    losses = total.divided_by(total.num_samples, total.weight_sum)
    values = {name: float(loss) for name, loss in losses.items()}
    return {**values, "total_loss": sum(values.values())}
