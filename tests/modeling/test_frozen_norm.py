"""Frozen norms against Detectron2's, and their cache."""

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d

from clq.modeling.frozen_norm import OnePassFrozenBatchNorm2d


@pytest.mark.parametrize("dtype, atol", ((torch.float32, 1e-6), (torch.bfloat16, 1 / 64)))
def test_frozen_norms_are_detectron2s_in_one_pass(dtype, atol):
    generator = torch.Generator().manual_seed(0)
    theirs = FrozenBatchNorm2d(5)
    for tensor in (theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var):
        tensor.copy_(torch.rand(5, generator=generator) + 0.5)
    ours = torch.nn.Sequential(copy.deepcopy(theirs))
    OnePassFrozenBatchNorm2d.replace_in(ours)
    assert type(ours[0]) is OnePassFrozenBatchNorm2d
    assert ours[0].state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(2, 5, 3, 4, generator=generator).to(dtype).requires_grad_()
    upstream = torch.randn(2, 5, 3, 4, generator=generator).to(dtype)
    found, expected = ours(x), theirs(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)
    gradients = [torch.autograd.grad(y, x, upstream)[0] for y in (found, expected)]
    assert torch.equal(*gradients)
    torch.testing.assert_close(ours(x.detach()), theirs(x.detach()), rtol=0, atol=0)


class NormOfMain(FrozenBatchNorm2d):
    """Stand-in for the norm of Detectron2's main, which keeps a count of batches."""

    def __init__(self, count: int | None) -> None:
        super().__init__(5)
        self.register_buffer("num_batches_tracked", None if count is None else torch.tensor(count))


@pytest.mark.parametrize("count", (None, 0, 7))
def test_frozen_norms_of_detectron2s_main_are_replaced_without_their_count(count, monkeypatch):
    theirs = NormOfMain(count)
    theirs.weight.fill_(3.0)
    # On main, every frozen norm is of this type.
    monkeypatch.setattr("clq.modeling.frozen_norm.FrozenBatchNorm2d", NormOfMain)
    ours = torch.nn.Sequential(theirs)
    OnePassFrozenBatchNorm2d.replace_in(ours)
    assert type(ours[0]) is OnePassFrozenBatchNorm2d
    assert ours[0].state_dict().keys() == FrozenBatchNorm2d(5).state_dict().keys()
    assert torch.equal(ours[0].weight, theirs.weight)


def norm_with_numbers(seed: int) -> OnePassFrozenBatchNorm2d:
    generator = torch.Generator().manual_seed(seed)
    norm = OnePassFrozenBatchNorm2d(5)
    for buffer in norm.buffers():
        buffer.copy_(torch.rand(5, generator=generator) + 0.5)
    return norm


CHANGES = {
    "weights are loaded": lambda norm: norm.load_state_dict(norm_with_numbers(1).state_dict()),
    "weights are assigned": lambda norm: norm.load_state_dict(
        norm_with_numbers(1).state_dict(), assign=True
    ),
    "a buffer is written to": lambda norm: norm.running_var.mul_(2),
    "a buffer is replaced": lambda norm: setattr(norm, "bias", torch.full((5,), 3.0)),
    "it is cast": lambda norm: norm.to(torch.float64).running_mean.add_(1),
    "it goes through half precision": lambda norm: norm.half().float(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_copied", (False, True))
def test_the_cache_of_a_norm_does_not_go_stale(change, is_copied):
    norm = norm_with_numbers(0)
    x = torch.randn(2, 5, 3, 4, requires_grad=True)
    before = norm(x)
    assert torch.equal(norm(x), before)
    norm = copy.deepcopy(norm) if is_copied else norm
    CHANGES[change](norm)
    fresh = OnePassFrozenBatchNorm2d(5).to(norm.weight.dtype)
    fresh.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), fresh(x)) and not torch.equal(norm(x), before)
    assert len(norm.state_dict()) == len(OnePassFrozenBatchNorm2d(5).state_dict())


def test_a_norm_computes_scale_and_shift_once_for_each_precision(monkeypatch):
    norm, roots = norm_with_numbers(0), []
    rsqrt = torch.Tensor.rsqrt
    monkeypatch.setattr(torch.Tensor, "rsqrt", lambda x: roots.append(x) or rsqrt(x))
    x = torch.randn(2, 5, 3, 4, requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16, torch.float32, torch.bfloat16):
        assert norm(x.to(dtype)).dtype == dtype
    assert len(roots) == 2
    with torch.no_grad():
        torch.compile(norm, backend="eager")(x)
    torch.testing.assert_close(torch.compile(norm, backend="eager", fullgraph=True)(x), norm(x))
