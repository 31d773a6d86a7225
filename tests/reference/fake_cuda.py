"""Detectors on CUDA tensors that have a device and a shape, and no values: no GPU is needed.

PyTorch's fake tensors refuse to mix devices or types as CUDA does, and every operator passes by a
dispatch mode. Backward passes alone ask for a driver. So operators of a whole step are counted on
fake tensors of the CPU, where they are the same ones but for :func:`forms_of_cuda` and six casts a
level of the alignment, which CUDA takes in fp64.
"""

import collections
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.ops import deform_conv2d

# What starts no kernel: views, allocations, and questions about shapes and types.
_FREE = set(
    "view _unsafe_view reshape _reshape_alias permute expand slice select unsqueeze squeeze "
    "transpose t split split_with_sizes unbind detach alias as_strided narrow diagonal unfold "
    "empty empty_like new_empty empty_strided new_empty_strided lift_fresh promote_types detach_ "
    "device dim numel is_contiguous is_non_overlapping_and_dense "
    "sym_size sym_stride sym_numel sym_storage_offset".split()
)
_NUM_FOUND = 60  # what a search for positives or for candidates finds
_WAITING = {"nonzero", "masked_select", "unique_dim", "_unique2", "_local_scalar_dense", "nms"}


class Watch(TorchDispatchMode):
    """Counts operators, and lists those for which a GPU's host waits.

    Attributes:
        counts: operators by phase.
        phase: to which operators count from now on.
        waits: name of each operator that waits, a copy between devices too, and how many
            convolutions had been queued by then.
        convolutions: types of the operands of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.reset()

    def reset(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.waits: list[tuple[str, int]] = []
        self.convolutions: list[tuple[torch.Size, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        if name not in _FREE:
            self.counts[self.phase] += 1
        if name == "convolution":
            self.convolutions.append((args[1].shape, args[1].dtype))
        wait = self._wait(name, args, kwargs)
        if wait:
            self.waits.append((wait, len(self.convolutions)))
        if wait == name:
            return self._answer(name, args)
        if wait == "mask" and name == "index" and len(args[1]) == 1:
            (mask,) = args[1]
            some = torch.empty(min(_NUM_FOUND, mask.numel()), dtype=torch.int64, device=mask.device)
            return func(args[0].flatten(0, mask.dim() - 1), [some])
        return func(*args, **kwargs)

    def _wait(self, name: str, args: Any, kwargs: Any) -> str | None:
        """Reason why the host waits, if any; the operator's name where its result is made up."""
        if name in ("_to_copy", "copy_"):
            source = args[0] if name == "_to_copy" else args[1]
            target = kwargs.get("device") or args[0].device
            return "copy" if source.device.type != torch.device(target).type else None
        if name in _WAITING:
            return name
        if name in ("index", "index_put", "index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            # One number for all that a mask chooses is filled in without a look at the mask.
            fills = name != "index" and len(args[1]) == 1 and args[2].numel() == 1
            return "mask" if masks and not fills else None
        return None

    @staticmethod
    def _answer(name: str, args: Any) -> Any:
        """A plausible result of an operator that waits: some rows, and even numbers."""
        if name == "_local_scalar_dense":
            return args[0].dtype.is_floating_point and 1.0 or 2 * _NUM_FOUND
        shape = (_NUM_FOUND, args[0].dim()) if name == "nonzero" else (_NUM_FOUND // 2,)
        return torch.empty(shape, dtype=torch.int64, device=args[0].device)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Fake tensors, and a watch over them."""
    env = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
    with FakeTensorMode(shape_env=env), Watch() as watch:
        yield watch


def fake_twin(model: nn.Module, device: str) -> nn.Module:
    """Turn the parameters and buffers of a model into fake tensors, in place."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = _fake(tensor, device)
    return model


def _fake(tensor: Tensor, device: str) -> Tensor:
    options = {"dtype": tensor.dtype, "device": device}
    fake = torch.empty_strided(tensor.shape, tensor.stride(), **options)
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(fake, requires_grad=tensor.requires_grad) if is_parameter else fake


@contextlib.contextmanager
def forms_of_cuda() -> Iterator[None]:
    """Let CPU tensors take the operators that CUDA tensors take."""

    def deform_conv(feature: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        return deform_conv2d(feature, offset, weight, padding=1)

    with (
        mock.patch("clq.modeling.alignment.deform_conv3x3", deform_conv),
        mock.patch("clq.modeling.chunked_sum._CPU_CHUNK", 1 << 24),
    ):
        yield


@contextlib.contextmanager
def without_autograd_engine() -> Iterator[None]:
    """Make gradients up where a forward pass asks for them."""

    def grad(outputs: Tensor, inputs: list[Tensor], **options: Any) -> list[Tensor]:
        return [torch.empty_like(x) for x in inputs]

    with mock.patch("torch.autograd.grad", grad):
        yield


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
