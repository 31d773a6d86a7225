"""Parts of CLQ beside what they stand in for: alignment, matching, evaluation, data loading."""

import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.structures import Boxes
from torch import Tensor
from torchvision.ops import deform_conv2d

from clq.modeling import ATSSMatcher
from clq.modeling.anchors import CachedAnchorGenerator
from clq.modeling.deform_conv import deform_conv3x3
from clq.modeling.nearest_anchors import AnchorGrid

from .models import ROOT, Place
from .turns import Run

sys.path.insert(0, str(ROOT / "tests"))
from reference.atss import plain_atss  # noqa: E402

MAP = (100, 136)  # cells of the finest level
MATCHING_SIZE = (800, 1344)  # height and width of the image in pixels
_CHANNELS, _OFFSET_GROUPS = 256, 4
_STRIDES = (8, 16, 32, 64, 128)


def alignment(
    entries: Collection[str], *, backward: bool, shape: tuple[int, int] = MAP
) -> dict[str, Run]:
    """Deformable 3x3 convolution: "ours" as CPU runs it, and torchvision's "op"."""
    return {name: align(name, backward, shape) for name in entries}


def align(name: str, backward: bool, shape: tuple[int, int] = MAP, device: Place = "cpu") -> Run:
    """One form; with the backward pass, it gives the gradients of all three inputs."""
    form: Callable[..., Tensor] = {"ours": deform_conv3x3, "op": _operator}[name]
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(1, _CHANNELS, *shape, generator=generator)
    offset = torch.randn(1, _OFFSET_GROUPS * 18, *shape, generator=generator)
    weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3, generator=generator) * 0.02
    inputs = [tensor.to(device) for tensor in (feature, offset, weight)]
    leaves = [tensor.requires_grad_(backward) for tensor in inputs]
    upstream = torch.ones(1, _CHANNELS, *shape, device=device)

    def run() -> object:
        with torch.set_grad_enabled(backward):
            aligned = form(*leaves)
        return torch.autograd.grad(aligned, leaves, upstream) if backward else aligned

    return run


def _operator(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    return deform_conv2d(feature, offset, weight, padding=1)


def align_after_a_small_map(name: str) -> Run:
    """For peak memory, with code and threads there already."""
    align(name, backward=True, shape=(8, 8))()
    return align(name, backward=True)


def check_alignment(results: Mapping[str, Any]) -> None:
    """Check that both forms agree up to the order of sums; nothing where only one ran."""
    found = [result if isinstance(result, tuple) else (result,) for result in results.values()]
    for ours, op in zip(found[0], found[-1]):
        scale = float(op.abs().max())
        torch.testing.assert_close(ours, op, rtol=1e-3, atol=1e-4 * scale)


def matching(entries: Collection[str], num_boxes: int, device: Place = "cpu") -> dict[str, Run]:
    """ "ours", and "plain": one box at a time with the IoU of all anchors and boxes."""
    anchors, boxes = [level.to(device) for level in _anchors()], _boxes(num_boxes).to(device)
    runs: dict[str, Run] = {
        "ours": lambda: _match(anchors, boxes),
        "plain": lambda: plain_atss(anchors, boxes),
    }
    return {name: runs[name] for name in entries}


def match_after_one_box(num_boxes: int) -> Run:
    """Ours, for peak memory, with code and threads there already."""
    matching(["ours"], num_boxes=1)["ours"]()
    return matching(["ours"], num_boxes)["ours"]


def check_matching(results: Mapping[str, Any]) -> None:
    """Check that both gave the same labels and boxes to each anchor, if both ran."""
    (ours_idxs, ours), *others = results.values()
    for idxs, labels in others:
        assert torch.equal(ours, labels)
        assert torch.equal(ours_idxs[ours == 1], idxs[ours == 1])


def _match(anchors: list[Boxes], boxes: Boxes) -> tuple[Tensor, Tensor]:
    return ATSSMatcher(9)(anchors, boxes, grid=AnchorGrid(_STRIDES, _level_sizes()))


def _anchors() -> list[Boxes]:
    """CLQ's, of each level."""
    generator = CachedAnchorGenerator(_STRIDES)
    return generator([torch.zeros(1, 1, *size) for size in _level_sizes()])


def _level_sizes() -> list[tuple[int, int]]:
    """Height and width of each level in cells."""
    height, width = MATCHING_SIZE
    return [(-(-height // s), -(-width // s)) for s in _STRIDES]


def _boxes(count: int) -> Boxes:
    """Sides from 16 to 512 pixels, evenly on a logarithmic scale; all inside the image."""
    generator = torch.Generator().manual_seed(3)
    sides = 16 * 32 ** torch.rand(count, 2, generator=generator)
    room = torch.tensor(MATCHING_SIZE[::-1]) - sides
    corner = room * torch.rand(count, 2, generator=generator)
    return Boxes(torch.cat((corner, corner + sides), dim=1))


def evaluation(entries: Collection[str]) -> dict[str, Run]:
    """ "ours" and "pycocotools": the 12 numbers of COCO from detections and ground truth."""
    from .data_cases import evaluation as pair

    return _pair(pair(), ("ours", "pycocotools"), entries)


def check_evaluation(results: Mapping[str, Any]) -> None:
    """Check that the 12 numbers are equal to 1e-9, if both ran."""
    first, *others = (torch.as_tensor(result, dtype=torch.float64) for result in results.values())
    assert first.shape == (12,), first.shape
    for other in others:
        torch.testing.assert_close(first, other, rtol=0, atol=1e-9)


def data_loading(entries: Collection[str], folder: Path) -> dict[str, Run]:
    """ "ours" and "detectron2": the training loader with each mapper."""
    from .data_cases import data_loading as pair

    return _pair(pair(folder), ("ours", "detectron2"), entries)


def _pair(
    pair: tuple[Callable[[], object], Callable[[], object]],
    names: tuple[str, str],
    entries: Collection[str],
) -> dict[str, Run]:
    return {name: run for name, run in zip(names, pair) if name in entries}
