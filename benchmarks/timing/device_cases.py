"""Cases timed on a device: parts of CLQ in fp32, and whole models in several precisions.

A model is built once and kept until the next one is asked for, so that the cases of a model follow
each other.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from . import model_cases, part_cases
from .models import build, images, training_batch
from .on_device import give_back_memory
from .turns import Run

Size = tuple[int, int]  # height and width of an image in pixels

PEERS = ("retinanet", "fcos", "torchvision_retinanet", "torchvision_fcos")
LEARNING = ("clq", "clq_X_101_32x4d", "retinanet", "fcos")  # torchvision's have their own form
HALF: Mapping[str, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Scale(NamedTuple):
    """Extent of the measurement."""

    sizes: tuple[Size, ...]  # for inference; steps take the first
    batches: tuple[int, ...]  # for inference
    step_batches: tuple[int, ...]
    precisions: tuple[str, ...]
    parts_size: Size  # a multiple of 32
    alignment_map: Size  # cells
    seconds: float  # of a case, its warm-up left aside
    calls: int  # timed, at most


_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
FULL = Scale(
    sizes=((800, 1333), (800, 1088)),
    batches=(1, 8),
    step_batches=(8, 16),
    precisions=_PRECISIONS,
    parts_size=(800, 1088),
    alignment_map=part_cases.MAP,
    seconds=4,
    calls=50,
)
QUICK = FULL._replace(sizes=FULL.sizes[:1], step_batches=(8,), seconds=0.4, calls=20)
ON_CPU = Scale(
    sizes=((96, 128),),
    batches=(2,),
    step_batches=(2,),
    precisions=("fp32", "bf16"),
    parts_size=(96, 128),
    alignment_map=(12, 16),
    seconds=0,
    calls=1,
)


class Case(NamedTuple):
    """One row."""

    what: str
    model: str
    size: Size
    batch: int  # images
    precision: str
    prepare: Callable[[], Run]
    counts_images: bool = True  # whether images a second say something


class Models:
    """The model that was asked for last, on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._name, self._model = "", nn.Module()

    def get(self, name: str) -> Any:
        if name != self._name:
            self._name, self._model = "", nn.Module()
            give_back_memory()
            self._model = build(name, self.device)
            self._name = name
        return self._model


def cases(scale: Scale, device: torch.device) -> Iterator[Case]:
    """All cases, in the order in which they are measured."""
    models = Models(device)
    yield from _parts(scale, models)
    for name in ("clq", "clq_X_101_32x4d", *PEERS):
        for size in scale.sizes:
            for batch in scale.batches:
                for precision in scale.precisions:
                    prepare = partial(_inference, models, name, size, batch, precision)
                    yield Case("inference", name, size, batch, precision, prepare)
        if name not in LEARNING:
            continue
        for batch in scale.step_batches:
            for precision in scale.precisions:
                size = scale.sizes[0]
                prepare = partial(_step, models, name, size, batch, precision)
                yield Case("training step", name, size, batch, precision, prepare)


def _parts(scale: Scale, models: Models) -> Iterator[Case]:
    """Parts of CLQ, and the losses of its peers; all in fp32."""
    size, device = scale.parts_size, models.device

    def case(what: str, prepare: Callable[[], Run], model: str = "clq", batch: int = 1) -> Case:
        return Case(what, model, size, batch, "fp32", prepare, counts_images=False)

    for name in ("clq", "retinanet", "fcos"):
        yield case("losses", partial(_losses, models, name, size), name, batch=2)
    for name, what in (
        ("postprocess", "post-processing"),
        ("whole", "network and post-processing"),
    ):
        yield case(what, partial(_postprocessing, name, size, device))
    for backward in (False, True):
        align = partial(part_cases.align, "ours", backward, scale.alignment_map, device)
        yield case("alignment" + (" and its gradients" if backward else ""), align)
    for count in (10, 100, 1000):
        matching = partial(_matching, count, device)
        yield case(f"matching of {count} boxes", matching)._replace(size=part_cases.MATCHING_SIZE)


def allow_tf32(precision: str) -> None:
    """Let convolutions and matrix products of fp32 round their inputs to 10 bits, or not."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    if precision not in HALF:
        return contextlib.nullcontext()
    return torch.autocast(device.type, HALF[precision])


def _on_device(batch: list[dict[str, Any]], device: torch.device) -> list[dict[str, Any]]:
    return [{key: value.to(device) for key, value in sample.items()} for sample in batch]


def _inference(models: Models, name: str, size: Size, batch: int, precision: str) -> Run:
    """From pixels on the device to final boxes there."""
    model = models.get(name).eval()
    inputs = _on_device(images(batch, size), models.device)

    def run() -> object:
        with torch.no_grad(), _autocast(precision, models.device):
            return model(inputs)

    return run


def _step(models: Models, name: str, size: Size, batch: int, precision: str) -> Run:
    """Forward, losses, backward and SGD; fp16 with a scaled loss."""
    model = models.get(name).train()
    inputs = _on_device(training_batch(batch, size), models.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(models.device.type, enabled=precision == "fp16")

    def run() -> object:
        optimizer.zero_grad()
        with EventStorage(), _autocast(precision, models.device):
            losses = model(inputs)
        scaler.scale(sum(losses.values())).backward()
        scaler.step(optimizer)
        scaler.update()
        return losses

    return run


def _losses(models: Models, name: str, size: Size) -> Run:
    return model_cases.losses_of(models.get(name).train(), size, models.device)


def _postprocessing(name: str, size: Size, device: torch.device) -> Run:
    return model_cases.postprocessing([name], size, device)[name]


def _matching(count: int, device: torch.device) -> Run:
    return part_cases.matching(["ours"], count, device)["ours"]
