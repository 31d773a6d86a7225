"""What is kept from one call to the next, and when it is made anew."""

import copy
import pickle

import pytest
import torch

from clq.modeling.kept import Kept


def test_a_value_is_made_once_and_the_oldest_makes_room():
    made: list[str] = []

    def get(key: str) -> str:
        return kept.get(key, lambda: made.append(key) or key)

    kept: Kept[str] = Kept(most=2)
    assert [get(key) for key in "aabab"] == list("aabab") and made == ["a", "b"]
    get("c")
    get("b")
    assert made == ["a", "b", "c"]
    get("a")
    assert made == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    "duplicate", (copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x)))
)
def test_a_copy_is_empty(duplicate):
    kept: Kept[int] = Kept(most=2)
    kept.get("a", lambda: 1)
    assert duplicate(kept).get("a", lambda: 2) == 2 and kept.get("a", lambda: 3) == 1


def test_what_inference_made_serves_training():
    kept: Kept[torch.Tensor] = Kept(most=1)
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        kept.get("a", lambda: weight * 2)
    value = kept.get("a", lambda: weight * 3)
    assert not value.requires_grad
    (weight * value).sum().backward()
    assert weight.grad.tolist() == [2, 2]


def test_nothing_of_a_trace_is_kept():
    kept: Kept[torch.Tensor] = Kept(most=1)
    double = torch.compile(lambda x: kept.get("a", lambda: x * 2), backend="eager", fullgraph=True)
    assert double(torch.ones(1)) == 2 and kept.get("a", lambda: torch.zeros(1)) == 0
