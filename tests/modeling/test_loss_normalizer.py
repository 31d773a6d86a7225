"""Loss normalizers in one process; for several see tests/engine/distributed."""

import pytest
import torch

from clq.modeling.loss_normalizer import LossAccumulator, LossSums, normalize


def sums(a: float, b: float, num_samples: float, weight_sum: float) -> LossSums:
    a_, b_, n, w = torch.tensor([a, b, num_samples, weight_sum], requires_grad=True).unbind()
    return LossSums({"a": a_}, {"b": b_}, n, w)


def numbers(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: loss.item() for name, loss in losses.items()}


def test_one_process_divides_by_its_own_counts_and_keeps_the_graph():
    losses = normalize(sums(6.0, 1.0, num_samples=3, weight_sum=0.25))
    assert numbers(losses) == {"a": 2.0, "b": 4.0}
    assert losses["a"].requires_grad and losses["b"].requires_grad


def test_counts_are_not_trained():
    values = sums(6.0, 1.0, num_samples=3, weight_sum=0.25)
    a, b = normalize(values).values()
    grads = torch.autograd.grad(a + b, (values.num_samples, values.weight_sum), allow_unused=True)
    assert grads == (None, None)


@pytest.mark.parametrize("num_samples", [0.0, 0.5, 1.0])
def test_there_is_at_least_one_sample(num_samples: float):
    assert numbers(normalize(sums(6.0, 0.0, num_samples, 1.0)))["a"] == 6.0


def test_a_weight_of_zero_divides_by_one():
    assert numbers(normalize(sums(0.0, 0.0, 1, weight_sum=0.0)))["b"] == 0.0
    assert numbers(normalize(sums(0.0, 3.0, 1, weight_sum=0.0)))["b"] == 3.0


def test_a_micro_batch_knows_the_samples_of_the_batch_and_counts_for_its_share():
    values = sums(6.0, 1.0, num_samples=1, weight_sum=0.25)
    losses = normalize(values, num_samples=torch.tensor(3.0), num_micro_batches=2)
    assert numbers(losses) == {"a": 2.0, "b": 2.0}


def test_an_accumulator_adds_up_and_does_not_divide():
    accumulator = LossAccumulator()
    assert numbers(accumulator(sums(1.0, 2.0, 3.0, 4.0))) == {"a": 1.0, "b": 2.0}
    assert numbers(accumulator(sums(10.0, 20.0, 30.0, 40.0))) == {"a": 10.0, "b": 20.0}
    total = accumulator.total
    assert total is not None and (total.num_samples, total.weight_sum) == (33.0, 44.0)
    losses = total.divided_by(total.num_samples, total.weight_sum)
    assert numbers(losses) == pytest.approx({"a": 11 / 33, "b": 22 / 44})
