"""Every member on a GPU that is not there: devices and types, waits, and how many operators."""

import contextlib
from pathlib import Path
from typing import Any

import detectron2
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from clq.config import get_clq_cfg
from clq.modeling import CLQ
from reference.fake_cuda import (
    fake_twin,
    forms_of_cuda,
    tensors_in,
    watched,
    without_autograd_engine,
)
from reference.members import COCO, build

MEMBERS = ("atss", "gfl", "atss_clq", "atss_clq_align", "clq")
SIZE = (128, 192)  # of images, in pixels; a multiple of the backbone's divisor
PRECISIONS = (None, torch.float16, torch.bfloat16)
# In the order in which a step does it: two images, then ground truth of the batch.
WAITS_OF_A_STEP = ["copy"] * 4 + ["nonzero"]
# The image, the logits that pass, the number of candidates, a constant of torchvision's, and NMS.
WAITS_OF_AN_INFERENCE = ["copy", "nonzero", "_local_scalar_dense", "copy", "nms"]


@pytest.fixture(autouse=True)
def plain_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectron2 computes the size of a batch by tensors of the host, which here have no values."""

    def from_tensors(tensors: list[Tensor], divisor: int = 0, *args: Any, **options: Any) -> Any:
        sizes = [(t.shape[-2], t.shape[-1]) for t in tensors]
        height, width = (-(-max(sides) // divisor) * divisor for sides in zip(*sizes))
        batch = tensors[0].new_full((len(tensors), 3, height, width), 0.0)
        for padded, image in zip(batch, tensors):
            padded[:, : image.shape[-2], : image.shape[-1]].copy_(image)
        return ImageList(batch, sizes)

    monkeypatch.setattr(ImageList, "from_tensors", staticmethod(from_tensors))
    # Neither is asked of a driver that is not there.
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *args, **options: True)


def batch(*counts: int, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """Images on the host with that many boxes each."""
    samples = []
    for count in counts:
        gt = Instances(size)
        gt.gt_boxes = Boxes(torch.rand(count, 4).cumsum(dim=1) * 40)
        gt.gt_classes = torch.zeros(count, dtype=torch.int64)
        samples.append({"image": torch.zeros(3, *size, dtype=torch.uint8), "instances": gt})
    return samples


def lay_out_anchors(detector: CLQ) -> None:
    """Fill the cache of anchors, which Detectron2's main makes on the host, once for each shape."""
    strides = detector.anchor_generator.strides
    shapes = [[-(-side // stride) for side in SIZE] for stride in strides]
    detector.anchor_generator([torch.empty(1, 1, *shape, device="cuda") for shape in shapes])


def autocast(precision: torch.dtype | None) -> contextlib.AbstractContextManager:
    return torch.autocast("cuda", dtype=precision) if precision else contextlib.nullcontext()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("member", MEMBERS)
def test_a_step_synchronizes_only_before_the_network(member: str, precision: torch.dtype | None):
    detector = build(member).train()
    with watched() as watch, without_autograd_engine():
        fake_twin(detector, "cuda")
        lay_out_anchors(detector)
        for inputs in (batch(3, 5), batch(0, 1), batch(0, 0)):
            watch.reset()
            with autocast(precision):
                losses = detector(inputs)
            assert {(x.device.type, x.dtype) for x in losses.values()} == {("cuda", torch.float32)}
            assert [wait for wait, _ in watch.waits] == WAITS_OF_A_STEP
            assert {queued for _, queued in watch.waits} == {0}

    if detector.head.alignment:  # neither TF32 nor half precision
        shape = detector.head.alignment.offset.weight.shape
        assert {dtype for other, dtype in watch.convolutions if other == shape} == {torch.float64}


def test_micro_batches_synchronize_before_any_passes_the_network():
    detector = build("clq").train()
    with watched() as watch, without_autograd_engine():
        fake_twin(detector, "cuda")
        prepared = [detector.prepare(batch(2)), detector.prepare(batch(4))]
        watch.reset()
        for part in prepared:
            detector(*part)
        assert not watch.waits


@pytest.mark.parametrize("rule", ("pairs", "anchors"))
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("member", MEMBERS)
def test_inference_synchronizes_three_times(member: str, precision: torch.dtype | None, rule: str):
    """Beside the copies of the image and of a constant of torchvision's."""
    detector = build(member, **{"MODEL.CLQ.CANDIDATE_RULE_TEST": rule}).eval()
    with watched() as watch, torch.no_grad():
        fake_twin(detector, "cuda")
        lay_out_anchors(detector)
        for inputs in (batch(0), batch(0, 0)):
            watch.reset()
            with autocast(precision):
                outputs = detector(inputs)
            one, each = WAITS_OF_AN_INFERENCE[:1], WAITS_OF_AN_INFERENCE[1:]
            assert [wait for wait, _ in watch.waits] == one * len(inputs) + each * len(inputs)
            for output in outputs:
                found = output["instances"].get_fields().values()
                tensors = [x.tensor if isinstance(x, Boxes) else x for x in found]
                assert {x.device.type for x in tensors_in(tensors)} == {"cuda"}


# ------------------------------------------------------------------------------ operators of a step


def count_of_a_step(model: Any) -> dict[str, int]:
    """Operators by phase, for 2 images of 800 x 1088 with 7 boxes, in the second step."""
    with watched() as watch, forms_of_cuda(), EventStorage():
        fake_twin(model, "cpu").train()
        if isinstance(model, CLQ):
            enter_phases(model, watch)
        for _ in range(2):
            inputs = batch(7, 7, size=(800, 1088))
            watch.reset()
            watch.phase = "network"
            losses = model(inputs)
            watch.phase = "backward"
            sum(losses.values()).backward()
    return dict(watch.counts)


def enter_phases(model: CLQ, watch: Any) -> None:
    """Let matching and losses count to phases of their own."""
    for name in ("prepare", "losses"):
        method = getattr(model, name)

        def entered(*args: Any, method: Any = method, name: str = name, **options: Any) -> Any:
            before, watch.phase = watch.phase, name
            try:
                return method(*args, **options)
            finally:
                watch.phase = before

        setattr(model, name, entered)


def test_a_step_takes_hardly_more_operators_than_detectron2_s_fcos():
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(COCO / "clq_R_50_FPN_1x.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.CHANNELS_LAST", False])
    counts = count_of_a_step(build_model(cfg))
    zoo = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    fcos = instantiate(LazyConfig.load(str(zoo / "COCO-Detection/fcos_R_50_FPN_1x.py")).model)
    of_fcos = count_of_a_step(fcos)
    print(f"CLQ {counts}, {sum(counts.values())}; FCOS {of_fcos}, {sum(of_fcos.values())}")
    assert counts["prepare"] + counts["losses"] <= 320
    assert sum(counts.values()) <= 1.05 * sum(of_fcos.values())
