"""The losses of a detector on data that it does not learn from."""

import functools
import operator
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.detection_utils import build_augmentation
from detectron2.evaluation import inference_context
from detectron2.utils import comm
from torch import nn

from ...data import CLQMapper, TestBatches
from ...modeling.loss_normalizer import LossAccumulator


def validation_batches(cfg: CfgNode) -> TestBatches:
    """The images of all ``DATASETS.TEST`` with their objects, resized as for inference."""
    resize = build_augmentation(cfg, is_train=False)
    return TestBatches(
        get_detection_dataset_dicts(cfg.DATASETS.TEST, filter_empty=False),
        CLQMapper(cfg, is_train=True, augmentations=resize),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        skip_unreadable=cfg.DATALOADER.SKIP_UNREADABLE,
    )


@torch.no_grad()
def validation_losses(
    model: nn.Module, batches: Iterable[list[dict[str, Any]]]
) -> dict[str, float]:
    """The losses of a whole data set, however it is cut into batches and shared out.

    They are divided once, by the counts of all images. All processes must call it, one without
    images too.

    Args:
        model: not wrapped; its layers infer, so that no statistics move.
        batches: this process's share of the data.

    Returns:
        The losses by name, and ``total_loss``, in the main process; nothing in the others, nor
        where there is no image at all.
    """
    accumulator = LossAccumulator()
    with inference_context(model):
        model.training = True  # the flag by which a detector gives losses; its layers infer
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
