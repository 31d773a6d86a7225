"""Frozen batch norm with a single fused multiply-add in training."""

from typing import Any, NamedTuple

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from .cache import Cache


class _Affine(NamedTuple):
    """Scale and shift of a norm."""

    scale: Tensor  # (1, C, 1, 1)
    shift: Tensor  # (1, C, 1, 1)
    source: tuple[Tensor, ...]  # buffers, held so that no other tensors get their ids


class OnePassFrozenBatchNorm2d(FrozenBatchNorm2d):
    """FrozenBatchNorm2d with a single fused multiply-add in training.

    Scale and shift are cached for each precision, until a buffer is another tensor, as after a move
    of the module, or has been written to, as by loaded weights.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
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

        # A version counts writes to a tensor; tensors of inference mode have none, and compiled
        # code can't read them.
        if torch.compiler.is_compiling() or any(buffer.is_inference() for buffer in source):
            return compute()
        return self._cache.get((dtype, *((id(b), b._version) for b in source)), compute)

    @classmethod
    def replace_in(cls, module: nn.Module) -> None:
        """Replace every frozen batch norm below a module.

        Detectron2's main counts batches in its norm, too, which v0.6 does not: that is left out, so
        a checkpoint has the same names with both.
        """
        norm: Any
        for parent in list(module.modules()):
            for name, norm in list(parent.named_children()):
                if type(norm) is FrozenBatchNorm2d:
                    own = cls(norm.num_features, norm.eps)
                    theirs = norm.state_dict()
                    own.load_state_dict({key: theirs[key] for key in own.state_dict()})
                    setattr(parent, name, own)
