"""Tell whether a tensor can be a weight at all."""

import torch
from torch import Tensor

__all__ = ["check_weight"]


def check_weight(name: str, tensor: Tensor, *, dims: int | None = None) -> None:
    """Refuse a tensor that no layer can compute with.

    Args:
        name: in the file.
        tensor: of any kind.
        dims: number of dimensions that it must have; None takes any.

    Raises:
        ValueError: naming the tensor and what is wrong with it.
    """
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ValueError(f"the tensor {name} is sparse, quantized or without values, not dense.")
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"the tensor {name} is of {kind}, not of floating point.")
    if not tensor.isfinite().all():
        raise ValueError(f"the tensor {name} has values that are not finite.")
    if dims is not None and (tensor.dim() != dims or not tensor.numel()):
        raise ValueError(
            f"the tensor {name} has the shape {tuple(tensor.shape)}, but must have {dims} "
            f"dimension{'s' * (dims > 1)}, none of them empty."
        )
