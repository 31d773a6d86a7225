"""Cases of whole models: detect, learn, post-process, and compute losses.

Letters: N images, L levels, K classes, D channels of a coded box.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from .models import SIZE, Place, build, images, targets, training_batch
from .turns import Run

CANDIDATES = 1000  # pairs of anchor and class a level that pass the score threshold
_BATCH = 2  # images of a training step
_MOST_LOSS = 20.0
_MOST_DETECTIONS = 10


def inference(entries: Collection[str], size: tuple[int, int] = SIZE) -> dict[str, Run]:
    """One image, from uint8 pixels to final boxes.

    Args:
        entries: names of models; "clq_fast" is CLQ prepared for deployment on CPU, and left out
            where the processor lacks bf16.
        size: of the image.
    """
    batch = images(1, size)
    models = {name: build(name).eval() for name in entries if name != "clq_fast"}
    if "clq_fast" in entries:
        from clq.modeling.fast_inference import cpu_supports_bf16, fast_inference_model

        if cpu_supports_bf16():
            models["clq_fast"] = fast_inference_model(build("clq").eval())
    return {name: _detect(model, batch) for name, model in models.items()}


def batches(entries: Collection[str], size: tuple[int, int] = SIZE) -> dict[str, Run]:
    """Inference on as many images as the name of an entry ends with, as in "clq_8"."""
    parts = {entry: entry.rsplit("_", 1) for entry in entries}
    models = {name: build(name).eval() for name, _ in parts.values()}
    return {
        entry: _detect(models[name], images(int(count), size))
        for entry, (name, count) in parts.items()
    }


def check_detections(results: Mapping[str, Any]) -> None:
    """Check that no model has much to post-process.

    Raises:
        ValueError: one has.
    """
    for name, outputs in results.items():
        for output in outputs:
            found = len(output["instances"] if "instances" in output else output["boxes"])
            if found > _MOST_DETECTIONS:
                raise ValueError(f"{name} has {found} detections, too many for a fair comparison.")


def _detect(model: nn.Module, batch: list[dict[str, Any]]) -> Run:
    def run() -> object:
        with torch.no_grad():
            return model(batch)

    return run


def step(entries: Collection[str], size: tuple[int, int] = SIZE) -> dict[str, Run]:
    """Training steps of the named models, each on the same batch."""
    return {name: training_step(name, size) for name in entries}


def training_step(
    name: str, size: tuple[int, int] = SIZE, first_size: tuple[int, int] | None = None
) -> Run:
    """Forward, losses, backward and SGD of one model; the run gives the losses by name.

    The learning rate is that of the first iteration of the warm-up.

    Args:
        name: of the model.
        size: of the images.
        first_size: of images for a step that is done at once: it leaves the optimizer's state.
    """
    model = build(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4)

    def run(batch: list[dict[str, Any]]) -> dict[str, float]:
        with EventStorage():
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return {loss: value.item() for loss, value in losses.items()}

    if first_size is not None:
        run(training_batch(_BATCH, first_size))
        optimizer.zero_grad()
    return partial(run, training_batch(_BATCH, size))


def check_losses(results: Mapping[str, Any]) -> None:
    """Check that every model computes losses like those of a training run.

    Raises:
        ValueError: one does not.
    """
    for name, losses in results.items():
        if not all(0 < loss < _MOST_LOSS for loss in losses.values()):
            raise ValueError(f"{name} has losses out of range: {losses}")


def losses(entries: Collection[str], size: tuple[int, int] = SIZE) -> dict[str, Run]:
    """From predictions to gradients of the predictions: labels, losses, backward."""
    return {name: losses_of(build(name), size) for name in entries}


def losses_of(model: Any, size: tuple[int, int], device: Place = "cpu") -> Run:
    """As :func:`losses`, of one model, which is on the device already."""
    shapes = _level_shapes(model, size)
    features = [torch.randn(_BATCH, 256, *shape, device=device) * 0.5 for shape in shapes]
    with torch.no_grad():
        predictions = [list(maps) for maps in model.head(features)]
    leaves = [level.requires_grad_() for maps in predictions for level in maps]
    placeholder = ImageList(torch.empty(_BATCH, 3, *size, device=device), [size] * _BATCH)
    gt_instances = [instances.to(device) for instances in targets(_BATCH, size)]

    def run() -> dict[str, float]:
        with EventStorage():
            found = model.forward_training(placeholder, features, predictions, gt_instances)
        for leaf in leaves:
            leaf.grad = None
        sum(found.values()).backward()
        return {loss: value.item() for loss, value in found.items()}

    return run


def _level_shapes(model: Any, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of each level's map; the size is a multiple of 32 already."""
    return [(-(-size[0] // s), -(-size[1] // s)) for s in model.anchor_generator.strides]


class _Answer(nn.Module):
    """Does the work of a head, and then predicts what was prepared."""

    def __init__(self, head: nn.Module, predictions: Any) -> None:
        super().__init__()
        self.head, self.predictions = head, predictions

    def forward(self, features: list[Tensor]) -> Any:
        self.head(features)
        return self.predictions


def postprocessing(
    entries: Collection[str], size: tuple[int, int] = SIZE, device: Place = "cpu"
) -> dict[str, Run]:
    """CLQ with ``CANDIDATES`` a level that pass the score threshold.

    Returns:
        "postprocess": from logits to final boxes; "whole": the network, and then the same.
    """
    model = build("clq", device).eval()
    shapes = _level_shapes(model, size)
    features = [torch.empty(1, 256, *shape, device=device) for shape in shapes]
    found = predictions_with_candidates(model, shapes)
    predictions = tuple([level.to(device) for level in maps] for maps in found)
    placeholder = ImageList(torch.empty(1, 3, *size, device=device), [size])

    def postprocess() -> list[Instances]:
        with torch.no_grad():
            return model.forward_inference(placeholder, features, predictions)

    model.head = _Answer(model.head, predictions)
    runs: dict[str, Run] = {"postprocess": postprocess, "whole": _detect(model, images(1, size))}
    return {name: runs[name] for name in entries}


def check_postprocessing(results: Mapping[str, Any]) -> None:
    """Check that there were candidates.

    Raises:
        ValueError: fewer boxes came out than a model gives at most.
    """
    found = [len(instances) for instances in results["postprocess"]]
    if found != [100]:
        raise ValueError(f"Post-processing gave {found} boxes, not 100.")


def predictions_with_candidates(
    model: Any, shapes: list[tuple[int, int]]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Class logits, coded boxes and quality logits of CLQ, (1, K or D or 1, H, W) a level.

    Normal noise; the class logits are shifted so that ``CANDIDATES`` of a level, or half of its
    pairs if it has fewer than twice as many, have a joint score above the threshold.
    """
    generator = torch.Generator().manual_seed(2)
    logits, dists, qualities = [], [], []
    for shape in shapes:
        classes = torch.randn(1, model.num_classes, *shape, generator=generator)
        quality = torch.randn(1, 1, *shape, generator=generator)
        best = model.test_score_thresh / quality.sigmoid() ** model.criterion.quality.test_alpha
        margins = (classes - best.logit()).flatten()  # (K*H*W,): above 0 passes
        count = min(CANDIDATES, len(margins) // 2)
        logits.append(classes - margins.topk(count + 1).values[-1])
        channels = model.box2box_transform.num_channels
        dists.append(torch.randn(1, channels, *shape, generator=generator))
        qualities.append(quality)
    return logits, dists, qualities
