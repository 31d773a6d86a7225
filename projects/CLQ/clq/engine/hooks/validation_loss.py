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
from ...modeling.loss_normalizer import LossSums, Total, dividing

__all__ = ["validation_batches", "validation_losses"]


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
    total = Total()
    with inference_context(model), dividing(total):
        model.training = True  # the flag by which a detector gives losses; its layers infer
        for batch in batches:
            model(batch)
    # Sums as objects, not by an all-reduce: a process without images does not know the names.
    shares = comm.gather(None if total.sums is None else _on_host(total.sums))
    present = [sums for sums in shares if sums is not None]
    if not present:
        return {}
    whole = functools.reduce(operator.add, present)
    losses = {name: float(loss) for name, loss in whole.divided(whole.normalizers()).items()}
    return {**losses, "total_loss": sum(losses.values())}


def _on_host(sums: LossSums) -> LossSums:
    return LossSums(
        {name: value.cpu() for name, value in sums.by_samples.items()},
        {name: value.cpu() for name, value in sums.by_weight.items()},
        sums.num_samples.cpu(),
        sums.weight_sum.cpu(),
    )
