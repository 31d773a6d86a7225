"""The EMA of the weights, against a plain loop."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clq.engine.hooks.ema import EMAHook
from reference.host_waits import host_waits


def small_model(seed: int = 0) -> nn.Module:
    """Return a model with a frozen layer, a batch norm and a buffer that is not saved."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    model[2].register_buffer("mean", torch.tensor([103.53, 0.1]), persistent=False)
    return model


def tensors(model: nn.Module) -> dict[str, Tensor]:
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: value.detach().clone() for name, value in named}


@torch.no_grad()
def train_step(model: nn.Module, hook: EMAHook, number: int) -> None:
    """Change the trained weights and the statistics, then run the hook."""
    generator = torch.Generator().manual_seed(number)
    model(torch.randn(5, 3, generator=generator))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += torch.randn(parameter.shape, generator=generator)
    hook.after_step()


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Save and load a state as a checkpoint does, with weights_only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9998])
def test_the_average_equals_that_of_a_plain_loop(decay: float):
    """Step n keeps min(decay, (1 + n) / (10 + n)): 2/11, 3/12, 4/13, until that is the decay."""
    model = small_model()
    hook = EMAHook(model, decay)
    expected = {name: value.double() for name, value in tensors(model).items()}
    hook.before_train()
    for n in range(1, 13):
        train_step(model, hook, n)
        keep = min(decay, (1 + n) / (10 + n))
        for name, value in tensors(model).items():
            expected[name] = keep * expected[name] + (1 - keep) * value.double()
    average, last = tensors(hook.model), tensors(model)
    assert average.pop("1.num_batches_tracked") == last.pop("1.num_batches_tracked") == 12
    assert len(average) == 9
    for name, value in average.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-6, msg=name)
    same = {name for name, value in last.items() if value.equal(average[name])}
    assert same == (set(last) if decay == 0 else {"0.weight", "0.bias", "2.mean"})


def test_a_resumed_average_is_bit_exact():
    model = small_model()
    hook = EMAHook(model, 0.3)
    hook.before_train()
    for n in range(6):
        if n == 3:
            saved = through_a_file({"model": model.state_dict(), "hook": hook.state_dict()})
        train_step(model, hook, n)
    again = small_model(seed=1)
    resumed = EMAHook(again, 0.3)
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["hook"])
    resumed.before_train()
    for n in range(3, 6):
        train_step(again, resumed, n)
    torch.testing.assert_close(tensors(resumed.model), tensors(hook.model), rtol=0, atol=0)
    assert resumed.state_dict()["num_steps"] == 6


def test_an_average_enabled_on_resume_starts_from_the_resumed_weights():
    model = small_model()
    hook = EMAHook(model, 0.9998)
    model.load_state_dict(small_model(seed=1).state_dict())  # from a checkpoint without EMA
    hook.before_train()
    torch.testing.assert_close(tensors(hook.model), tensors(model), rtol=0, atol=0)


def test_the_averaged_model_is_in_eval_mode_and_has_no_gradients():
    model = small_model()
    hook = EMAHook(model, 0.5)
    assert model.training and not hook.model.training
    assert not any(parameter.requires_grad for parameter in hook.model.parameters())
    assert any(parameter.requires_grad for parameter in model.parameters())


def test_a_step_does_not_synchronize():
    hook = EMAHook(small_model(), 0.5)
    hook.before_train()
    assert host_waits(hook.after_step) == []
