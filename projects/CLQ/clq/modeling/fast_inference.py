"""Fast inference on CPU: folded norms, channels-last maps, bf16 convolutions."""

import copy
import itertools
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .backbones import TorchvisionDeformConv
from .clq import CLQ

# Norms that are affine once their statistics are fixed.
_FIXED_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)


def fast_inference_model(model: CLQ, *, bf16: bool | None = None) -> CLQ:
    """Copy a detector for fast inference on CPU.

    Norms with fixed statistics are folded into the convolution before them, feature maps lie
    channels-last, and convolutions run in bf16. Offsets, decoded boxes and scores stay in fp32.

    Args:
        model: with its weights, on CPU; not changed.
        bf16: run in bf16; None does where the CPU supports it.

    Raises:
        ValueError: the detector is on another device.
    """
    if model.device.type != "cpu":
        raise ValueError(
            f"MODEL.FAST_INFERENCE, or --fast, is for CPU, but the detector is on {model.device}; "
            "leave it out, or choose the device cpu."
        )
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_norms(model)
    model.to(memory_format=torch.channels_last)
    if cpu_supports_bf16() if bf16 is None else bf16:
        _cast_to_bf16(model)
    return model


def cpu_supports_bf16() -> bool:
    """Tell whether this CPU multiplies in bf16 natively."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu._is_avx512_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def fold_norms(model: nn.Module) -> None:
    """Fold norms with fixed statistics into the convolutions before them."""
    for module in model.modules():
        norm = getattr(module, "norm", None)  # of Detectron2's convolutions
        if isinstance(module, nn.Conv2d) and _is_affine(norm):
            _fold(module, norm)
            setattr(module, "norm", None)
        elif isinstance(module, fx.GraphModule):
            _fold_in_graph(module)
        elif isinstance(module, nn.Sequential):
            for i, (conv, norm) in enumerate(itertools.pairwise(module), start=1):
                if isinstance(conv, nn.Conv2d) and _is_affine(norm):
                    _fold(conv, norm)
                    module[i] = nn.Identity()


def _fold_in_graph(network: fx.GraphModule) -> None:
    """Fold norms of a traced network, whose graph tells the module before a norm."""
    modules = dict(network.named_modules())
    for node in network.graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not _is_affine(norm):
            continue
        (before,) = node.all_input_nodes
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            _fold(conv, norm)
            network.set_submodule(str(node.target), nn.Identity())


def _is_affine(norm: nn.Module | None) -> bool:
    """Tell a norm with fixed statistics from timm's, which apply an activation as well."""
    return isinstance(norm, FrozenBatchNorm2d) or type(norm) is nn.BatchNorm2d


def _fold(conv: nn.Conv2d, norm: Any) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _cast_to_bf16(model: CLQ) -> None:
    """Cast the network to bf16, except norms and the convolution that gives offsets."""
    exact = (*_FIXED_NORMS, nn.GroupNorm, nn.LayerNorm, TorchvisionDeformConv)
    offset = getattr(model.head.alignment, "offset", None)
    for module in (*model.backbone.modules(), *model.head.modules()):
        if not isinstance(module, exact) and module not in (offset, model.head):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.bfloat16()
    model.backbone.register_forward_pre_hook(_to_bf16)


def _to_bf16(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    return tuple(x.bfloat16() for x in inputs)
