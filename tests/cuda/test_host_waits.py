"""Host synchronizations of a training step, as PyTorch reports them."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances

from reference.devices import current, running_on
from reference.family import MEMBERS
from reference.members import build

pytestmark = pytest.mark.on_cuda

# The file, and what the host reads there.
ALLOWED = {"criterion.py": "which anchors are positive"}


@contextlib.contextmanager
def noting_waits() -> Iterator[list[str]]:
    """Collect the names of the Python files in which the host synchronizes."""
    files: list[str] = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield files
        finally:
            torch.cuda.set_sync_debug_mode("default")
    is_wait = "called a synchronizing CUDA operation"
    files += [Path(one.filename).name for one in found if is_wait in str(one.message)]


def batch() -> list[dict[str, Any]]:
    """On the device, where a loader that copies ahead would have put it."""
    samples = []
    for boxes in ([[10, 10, 60, 50], [20, 5, 80, 60]], []):
        gt = Instances((64, 96))
        gt.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        gt.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
        image = torch.rand(3, 64, 96) * 255
        samples.append({"image": image.to(current()), "instances": gt.to(current())})
    return samples


@pytest.mark.parametrize("dtype", (None, torch.float16, torch.bfloat16))
@pytest.mark.parametrize("member", [*MEMBERS, "atss_clq_align"])
def test_a_step_synchronizes_only_for_the_positive_anchors(member: str, dtype: torch.dtype | None):
    with running_on(torch.device("cuda")):
        detector, inputs = build(member).train(), batch()
        for is_first in (True, False):  # the first step makes what later ones keep
            with (
                noting_waits() as files,
                torch.autocast("cuda", dtype=dtype, enabled=dtype is not None),
            ):
                total = sum(detector(inputs).values())
            torch.cuda.set_sync_debug_mode("default" if is_first else "error")
            try:
                total.backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert files == list(ALLOWED)


def test_waits_are_seen():
    flags = torch.ones(3, device="cuda") > 0
    with noting_waits() as files:
        flags.nonzero()
    assert files == ["test_host_waits.py"]
