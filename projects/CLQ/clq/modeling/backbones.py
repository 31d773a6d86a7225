"""Feature pyramids P3 .. P7 over ResNets and over any torchvision feature extractor."""

from collections.abc import Sequence

import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.layers import DeformConv, FrozenBatchNorm2d, ModulatedDeformConv, ShapeSpec
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    FPN,
    Backbone,
    build_backbone,
    build_resnet_backbone,
)
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.backbone.resnet import DeformBottleneckBlock
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import deform_conv2d

from .deform_conv import DeformForm
from .frozen_norm import OnePassFrozenBatchNorm2d


class LastLevelP6P7NoReLU(LastLevelP6P7):
    """P6 from P5 and P7 from P6 by stride-2 convolutions with nothing between them.

    Detectron2's block of the same parameters puts a ReLU before the second one.
    """

    def __init__(self, channels: int) -> None:
        """
        Args:
            channels: channels of P5, P6 and P7.
        """
        super().__init__(channels, channels, in_feature="p5")

    def forward(self, p5: Tensor) -> list[Tensor]:
        # Not in half precision, on any device: oneDNN's bf16 leaves the weights' gradient unwritten
        # where maps are one cell wide.
        with torch.autocast(p5.device.type, enabled=False):
            p6 = self.p6(p5.to(self.p6.weight.dtype))
            return [p6, self.p7(p6)]


class TorchvisionDeformConv(nn.Module):
    """Deformable convolution of Detectron2's ResNet, by torchvision's operator.

    Needs no compiled ops of Detectron2; parameters keep their names. Source: arXiv 1703.06211
    and, with a mask, 1811.11168.

    Attributes:
        form: the operator, which another of the same arguments may replace.
    """

    def __init__(self, conv: DeformConv | ModulatedDeformConv) -> None:
        """
        Args:
            conv: without bias; its weight and norm are reused.
        """
        super().__init__()
        self.weight, self.norm = conv.weight, conv.norm
        self.form: DeformForm = deform_conv2d
        self.geometry = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve x (N, C, H, W) by offsets (dy, dx) in cells, (N, G*T*2, H', W')."""
        # In fp32 or better: the operator has no half precision on CPU.
        full = torch.promote_types(x.dtype, torch.float32)
        parts = [None if part is None else part.to(full) for part in (x, offset, self.weight, mask)]
        with torch.autocast(x.device.type, enabled=False):
            y = self.form(*parts[:3], mask=parts[3], **self.geometry)
        return self.norm(y.to(x.dtype))


class TorchvisionFeatures(Backbone):
    """The feature maps of a torchvision classification network.

    Channels and strides are read off a dry run, so any network that ``torch.fx`` can trace
    serves: MobileNet, EfficientNet, RegNet, ConvNeXt, Swin and others.
    """

    def __init__(
        self,
        name: str,
        out_nodes: Sequence[str],
        *,
        freeze_norm: bool = True,
        frozen_layers: Sequence[str] = (),
    ) -> None:
        """
        Args:
            name: a model of ``torchvision.models.list_models()``, built without weights.
            out_nodes: graph nodes whose outputs are the feature maps, from fine to coarse, as
                named by ``torchvision.models.feature_extraction.get_graph_node_names``.
            freeze_norm: hold the batch-norm layers at their loaded statistics and affine
                parameters.
            frozen_layers: modules of the model whose parameters are not trained.

        Raises:
            ValueError: torchvision has no such model, the model no such node or layer, or the node
                gives no feature map.
        """
        super().__init__()
        if name not in torchvision.models.list_models():
            raise ValueError(
                f"MODEL.TORCHVISION.NAME is '{name}', which torchvision does not have; "
                "torchvision.models.list_models() lists the names."
            )
        model = torchvision.models.get_model(name, weights=None)
        nodes = {node: node for node in out_nodes}
        self.body = create_feature_extractor(model, return_nodes=nodes)
        self._channels_last: set[str] = set()  # nodes whose maps are (N, H, W, C), as of Swin
        shapes = self._probe_shapes(name)
        if freeze_norm:
            self.body = FrozenBatchNorm2d.convert_frozen_batchnorm(self.body)
        layers = dict(self.body.named_modules())
        for layer in frozen_layers:
            if layer not in layers:
                raise ValueError(
                    f"MODEL.TORCHVISION.FROZEN_LAYERS has '{layer}', which is no layer of {name} "
                    "up to its last output."
                )
            layers[layer].requires_grad_(False)
        # Detectron2's names by stride: res3 for stride 8, res4 for 16, res5 for 32.
        levels = [f"res{int(shape.stride).bit_length() - 1}" for shape in shapes]
        self._node_of = dict(zip(levels, out_nodes))
        self._shapes = dict(zip(self._node_of, shapes))

    @torch.no_grad()
    def _probe_shapes(self, name: str, size: int = 64) -> list[ShapeSpec]:
        """Find channels and stride of each output by a dry run on a blank image.

        Its sides tell height from width, so that maps with the channels last are noticed.
        """
        was_training = self.body.training
        try:
            outputs = self.body.eval()(torch.zeros(1, 3, size, 2 * size))
        except (AssertionError, RuntimeError) as error:  # as of a ViT, which takes one size alone
            raise ValueError(
                f"MODEL.TORCHVISION.NAME is '{name}', which does not take images of any size "
                f"({' '.join(str(error).split()).rstrip('.')}); choose a network that does."
            ) from None
        self.body.train(was_training)
        shapes = []
        for node, x in outputs.items():
            if x.ndim == 4 and x.shape[2] == 2 * x.shape[1] != x.shape[3] / 2:
                self._channels_last.add(node)
                x = x.permute(0, 3, 1, 2)
            if x.ndim != 4 or x.shape[3] != 2 * x.shape[2]:
                raise ValueError(
                    f"MODEL.TORCHVISION.OUT_NODES has '{node}', whose output {tuple(x.shape)} for "
                    f"an image of {size} x {2 * size} is no feature map."
                )
            shapes.append(ShapeSpec(channels=x.shape[1], stride=size // x.shape[2]))
        return shapes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to the feature maps by level name."""
        features = self.body(x)
        return {
            level: (
                features[node].permute(0, 3, 1, 2)
                if node in self._channels_last
                else features[node]
            )
            for level, node in self._node_of.items()
        }

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self._shapes


class FixedStatisticsFPN(FPN):
    """FPN whose backbone trains the affine parameters of its batch norms, never the statistics."""

    def train(self, mode: bool = True) -> "FixedStatisticsFPN":
        super().train(mode)
        for module in self.bottom_up.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def build_fpn(cfg: CfgNode, bottom_up: Backbone, fpn: type[FPN] = FPN) -> FPN:
    """Put the pyramid of CLQ, P3 .. P7, on a network.

    Raises:
        ValueError: the network lacks a level of ``MODEL.FPN.IN_FEATURES``.
    """
    missing = set(cfg.MODEL.FPN.IN_FEATURES) - set(bottom_up.output_shape())
    if missing:
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES names {', '.join(sorted(missing))}, but the backbone gives "
            f"{', '.join(bottom_up.output_shape())} (res3 has stride 8, res4 16, res5 32)."
        )
    OnePassFrozenBatchNorm2d.replace_in(bottom_up)
    return fpn(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelP6P7NoReLU(cfg.MODEL.FPN.OUT_CHANNELS),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_clq_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's ResNet with the pyramid of CLQ, P3 .. P7."""
    trains_affine = cfg.MODEL.RESNETS.TRAIN_NORM_AFFINE
    if trains_affine:  # Detectron2 then freezes the norms of the frozen stages alone
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.RESNETS.NORM = "BN"
    bottom_up = build_resnet_backbone(cfg, input_shape)
    for block in bottom_up.modules():
        if isinstance(block, DeformBottleneckBlock):
            block.conv2 = TorchvisionDeformConv(block.conv2)
    return build_fpn(cfg, bottom_up, FixedStatisticsFPN if trains_affine else FPN)


@BACKBONE_REGISTRY.register()
def build_torchvision_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A torchvision feature extractor with the pyramid of CLQ, P3 .. P7."""
    options = cfg.MODEL.TORCHVISION
    bottom_up = TorchvisionFeatures(
        options.NAME,
        options.OUT_NODES,
        freeze_norm=options.FREEZE_NORM,
        frozen_layers=options.FROZEN_LAYERS,
    )
    return build_fpn(cfg, bottom_up)


def build_without_weights(cfg: CfgNode) -> Backbone:
    """Build the backbone for its modules and shapes alone; keeps the RNG state."""
    with torch.random.fork_rng(devices=()):
        try:
            with torch.device("meta"):
                return build_backbone(cfg)
        except (NotImplementedError, RuntimeError):  # it reads a tensor value while it is built
            return build_backbone(cfg)
