"""What losses are divided by; for several processes see tests/engine."""

import pytest
import torch

from clq.modeling.loss_normalizer import LossSums, Total, divide, dividing


def sums(a: float, b: float, num_samples: float, weight_sum: float) -> LossSums:
    a_, b_, n, w = torch.tensor([a, b, num_samples, weight_sum], requires_grad=True).unbind()
    return LossSums({"a": a_}, {"b": b_}, n, w)


def numbers(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: loss.item() for name, loss in losses.items()}


def test_one_process_divides_by_its_own_counts_and_keeps_the_graph():
    losses = divide(sums(6.0, 1.0, num_samples=3, weight_sum=0.25))
    assert numbers(losses) == {"a": 2.0, "b": 4.0}
    assert losses["a"].requires_grad and losses["b"].requires_grad


def test_counts_are_not_trained():
    values = sums(6.0, 1.0, num_samples=3, weight_sum=0.25)
    a, b = divide(values).values()
    grads = torch.autograd.grad(a + b, (values.num_samples, values.weight_sum), allow_unused=True)
    assert grads == (None, None)


@pytest.mark.parametrize("num_samples", [0.0, 0.5, 1.0])
def test_there_is_at_least_one_sample(num_samples: float):
    assert numbers(divide(sums(6.0, 0.0, num_samples, 1.0)))["a"] == 6.0


def test_no_weight_divides_by_one():
    assert numbers(divide(sums(0.0, 0.0, 1, weight_sum=0.0)))["b"] == 0.0
    assert numbers(divide(sums(0.0, 3.0, 1, weight_sum=0.0)))["b"] == 3.0


def test_sums_add_up_name_by_name():
    total = sums(1.0, 2.0, 3.0, 4.0) + sums(10.0, 20.0, 30.0, 40.0)
    assert numbers(total.by_samples) == {"a": 11.0} and numbers(total.by_weight) == {"b": 22.0}
    assert (total.num_samples, total.weight_sum) == (33.0, 44.0)
    assert not total.by_samples["a"].requires_grad


def test_a_total_holds_every_pass_and_no_graph():
    total = Total()
    with dividing(total):
        divide(sums(1.0, 2.0, 3.0, 4.0))
        assert total.sums is not None and not total.sums.weight_sum.requires_grad
        divide(sums(10.0, 20.0, 30.0, 40.0))
    assert numbers(total.sums.divided(total.sums.normalizers())) == pytest.approx(
        {"a": 11 / 33, "b": 22 / 44}
    )


def test_the_rule_ends_with_its_block():
    with pytest.raises(KeyError), dividing(lambda sums: {"mine": sums.weight_sum}):
        assert numbers(divide(sums(1.0, 2.0, 3.0, 4.0))) == {"mine": 4.0}
        raise KeyError
    assert numbers(divide(sums(3.0, 2.0, 3.0, 4.0))) == {"a": 1.0, "b": 0.5}


def test_flags_of_one_process_are_its_own():
    mean, raised = sums(1.0, 2.0, 3.0, 4.0).over_processes((True, False))
    assert raised.tolist() == [1, 0] and mean.by_samples["a"] == 1.0
    assert sums(1.0, 2.0, 3.0, 4.0).over_processes()[1].tolist() == []
