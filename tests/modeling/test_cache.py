"""Cache hits, evictions and copies."""

import copy
import pickle

import pytest
import torch

from clq.modeling.cache import Cache


def test_a_value_is_made_once_and_the_oldest_is_evicted():
    made: list[str] = []

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key)

    cache: Cache[str] = Cache(max_size=2)
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
    cache: Cache[int] = Cache(max_size=2)
    cache.get("a", lambda: 1)
    assert duplicate(cache).get("a", lambda: 2) == 2 and cache.get("a", lambda: 3) == 1


def test_a_value_made_in_inference_mode_serves_training():
    cache: Cache[torch.Tensor] = Cache(max_size=1)
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        cache.get("a", lambda: weight * 2)
    value = cache.get("a", lambda: weight * 3)
    assert not value.requires_grad
    (weight * value).sum().backward()
    assert weight.grad.tolist() == [2, 2]


def test_traces_bypass_the_cache():
    cache: Cache[torch.Tensor] = Cache(max_size=1)
    double = torch.compile(lambda x: cache.get("a", lambda: x * 2), backend="eager", fullgraph=True)
    assert double(torch.ones(1)) == 2 and cache.get("a", lambda: torch.zeros(1)) == 0
