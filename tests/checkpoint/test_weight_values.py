"""Which tensors can be weights."""

import pytest
import torch

from clq.checkpoint.weight_values import check_weight

BAD = {
    "is of int64, not of floating point": torch.ones(2, 2, dtype=torch.int64),
    "is of complex64, not of floating point": torch.ones(2, 2, dtype=torch.complex64),
    "has values that are not finite": torch.tensor([[1.0, torch.nan], [0.0, 0.0]]),
    "not dense": torch.eye(2).to_sparse(),
    "has the shape \\(2,\\), but must have 2 dimensions": torch.ones(2),
    "none of them empty": torch.ones(0, 2),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_no_layer_can_compute_with_is_refused_by_name(reason: str):
    with pytest.raises(ValueError, match=f"the tensor a.weight .*{reason}"):
        check_weight("a.weight", BAD[reason], dims=2)


@pytest.mark.parametrize("dtype", (torch.float16, torch.float32, torch.float64))
def test_a_weight_of_any_precision_passes(dtype: torch.dtype):
    check_weight("a.weight", torch.ones(2, 2, dtype=dtype), dims=2)
    check_weight("a.bias", torch.ones(2, dtype=dtype))
