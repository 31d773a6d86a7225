"""Batch norm with fixed statistics: one pass over a map, by numbers that are kept."""

from typing import Any, NamedTuple

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from .cache import Cache

__all__ = ["OnePassFrozenBatchNorm2d"]


class _Affine(NamedTuple):
    """Scale and shift of a norm, and the buffers from which they follow.

    As long as they are held here, no other tensors have their ids.
    """

    scale: Tensor  # (1, C, 1, 1)
    shift: Tensor  # (1, C, 1, 1)
    source: tuple[Tensor, ...]


class OnePassFrozenBatchNorm2d(FrozenBatchNorm2d):
    """Detectron2's, which takes a map that is trained through in one pass instead of two.

    Scale and shift are kept from step to step for each precision, until a buffer is another
    tensor, as after a move of the module, or has been written to, as by loaded weights.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        """
        Args:
            num_features: channels of the map.
            eps: is added to the variance.
        """
        super().__init__(num_features, eps)
        self._cache: Cache[_Affine] = Cache(max_size=2)

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            return super().forward(x)
        affine = self._affine(x.dtype)
        return torch.addcmul(affine.shift, x, affine.scale)

    def _affine(self, dtype: torch.dtype) -> _Affine:
        source = (self.weight, self.bias, self.running_mean, self.running_var)

        def compute() -> _Affine:
            weight, bias, mean, var = source
            scale = weight * (var + self.eps).rsqrt()
            shift = bias - mean * scale
            scale, shift = (vector.to(dtype).view(1, -1, 1, 1) for vector in (scale, shift))
            return _Affine(scale, shift, source)

        # Versions count what is written to a tensor; tensors of inference mode have none, and
        # compiled code is not to look at them.
        if torch.compiler.is_compiling() or any(buffer.is_inference() for buffer in source):
            return compute()
        return self._cache.get((dtype, *((id(b), b._version) for b in source)), compute)

    @classmethod
    def replace_in(cls, module: nn.Module) -> None:
        """Replace every frozen batch norm below a module."""
        norm: Any
        for parent in list(module.modules()):
            for name, norm in list(parent.named_children()):
                if type(norm) is FrozenBatchNorm2d:
                    own = cls(norm.num_features, norm.eps)
                    own.load_state_dict(norm.state_dict())
                    setattr(parent, name, own)
