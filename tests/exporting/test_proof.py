"""The proof of a file: what it lets through, and what not."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import deform_conv2d

from clq.exporting.network import ExportableDetector
from clq.exporting.proof import prove
from reference.members import build


class Spoilt:
    """A session of the exported part of a detector, in PyTorch, whose outputs are changed."""

    path = Path("model.onnx")

    def __init__(self, model, change=lambda boxes, scores: None):
        self.network, self.change = ExportableDetector(model, deform_conv2d), change

    def run(self, images):
        boxes, scores = self.network(torch.from_numpy(images))
        self.change(boxes, scores)
        return boxes.numpy(), scores.numpy()


def detector(**keys):
    model = build("clq", **keys).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "pred" in name or "cls_score" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def batches():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (n, 3, 96, 64)).astype(np.float32) for n in (1, 2)]


def test_a_faithful_file_passes():
    found = prove(detector(), Spoilt(detector()), batches())
    assert found.images == 3 and found.rows == 3 * (20 + 20 + 6 + 2 + 1)
    assert found.box < 1e-3 and found.score < 1e-6 and found.lacking == 0


def test_the_order_of_rows_does_not_count():
    def change(boxes, scores):
        boxes[:, [3, 4]], scores[:, [3, 4]] = boxes[:, [4, 3]], scores[:, [4, 3]]

    assert prove(detector(), Spoilt(detector(), change), batches()).box < 1e-3


def moved(boxes, scores):
    boxes[0, 7, 2] += 0.06


def raised(boxes, scores):
    best = scores[0, 7].argmin()
    scores[0, 7, best] += 1.5e-4


def repeated(boxes, scores):
    """The best row of a level in place of the second: it is right, but the second is lacking."""
    boxes[-1, 21], scores[-1, 21] = boxes[-1, 20], scores[-1, 20]


def not_a_number(boxes, scores):
    boxes[0, 5, 1] = math.nan


def another_class(boxes, scores):
    scores[0, 3] = scores[0, 3].roll(1)


@pytest.mark.parametrize("change", (moved, raised, repeated, not_a_number, another_class))
def test_a_single_wrong_row_is_noticed(change):
    with pytest.raises(ValueError, match="model.onnx was not written: it differs from PyTorch by"):
        prove(detector(), Spoilt(detector(), change), batches())


def test_rows_below_the_threshold_do_not_count_unless_all_are():
    model = detector(**{"MODEL.CLQ.SCORE_THRESH_TEST": 0.02})
    _, scores = Spoilt(model).run(batches()[0])
    above = int((scores.max(axis=2) > 0.02).sum())
    assert 0 < above < 49

    def change(boxes, scores):
        boxes[scores.amax(dim=2) < 0.0199] += 5

    found = prove(model, Spoilt(model, change), batches()[:1])
    assert found.rows == above and found.box < 1e-3
    strict = detector(**{"MODEL.CLQ.SCORE_THRESH_TEST": 0.9})
    assert prove(strict, Spoilt(strict), batches()[:1]).rows == 49
    with pytest.raises(ValueError, match="differs from PyTorch by up to 5 pixels"):
        prove(strict, Spoilt(strict, change), batches()[:1])


def test_a_file_with_fewer_rows_is_told():
    model = detector(**{"MODEL.CLQ.TOPK_CANDIDATES_TEST": 10})
    with pytest.raises(ValueError, match=r"gives \(1, 29, 4\) boxes for .*, not \(1, 49, 4\)"):
        prove(detector(), Spoilt(model), batches())


def test_a_proof_of_nothing_is_none():
    with pytest.raises(ValueError, match="it gives no boxes to compare"):
        prove(detector(), Spoilt(detector()), [])
