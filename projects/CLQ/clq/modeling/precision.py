"""The precision of what half precision is too coarse for."""

import torch


def full_precision(dtype: torch.dtype) -> torch.dtype:
    """Of numbers that come in some precision: fp32, or fp64 for fp64."""
    return torch.float64 if dtype is torch.float64 else torch.float32
