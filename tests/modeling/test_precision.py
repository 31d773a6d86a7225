"""Which precision half precision is raised to."""

import pytest
import torch

from clq.modeling.precision import full_precision


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32, torch.float64))
def test_as_pytorch_promotes(dtype: torch.dtype):
    assert full_precision(dtype) == torch.promote_types(dtype, torch.float32)
