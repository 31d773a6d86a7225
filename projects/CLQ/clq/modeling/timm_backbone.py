"""Feature pyramids P3 .. P7 over the networks of timm, an optional package."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from torch import Tensor, nn

from .backbones import FixedStatisticsFPN, build_fpn

_STRIDES = (8, 16, 32)
_ONE_STRIDE = 16  # of a plain vision transformer
# Options that make a network for one image size take any. They shift the windows of Swin's last
# stage too, as a larger map needs; a classifier's cover its whole map.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "always_partition": True},
    {"dynamic_img_size": True},
    {},
)


class SimplePyramid(nn.Module):
    """Maps of strides 8, 16 and 32 from one map of stride 16.

    They are a 2x2 deconvolution, the map itself and its 2x2 maximum. The FPN that follows adds
    top-down sums, which the source does without.

    Source: arXiv 2203.16527, section 3.
    """

    def __init__(self, channels: int) -> None:
        """
        Args:
            channels: of the map; the finer one has half as many.
        """
        super().__init__()
        self.finer = nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2)
        self.coarser = nn.MaxPool2d(kernel_size=2)
        self.channels = [channels // 2, channels, channels]

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.finer(x), x, self.coarser(x)]


class TimmFeatures(Backbone):
    """Feature maps of strides 8, 16 and 32 of a timm model.

    The model keeps the names of timm's weights. Classifier and layers above the last map are cut
    off. Of a network with one stride alone, such as a vision transformer, the last block gives the
    maps through a :class:`SimplePyramid`.
    """

    def __init__(
        self,
        name: str,
        *,
        freeze_norm: bool = True,
        frozen_layers: Sequence[str] = (),
        drop_path_rate: float = 0.0,
    ) -> None:
        """
        Args:
            name: a model of ``timm.list_models()``, built without weights.
            freeze_norm: do not train the affine parameters of batch norms;
                :class:`FixedStatisticsFPN` holds the statistics.
            frozen_layers: modules of the model whose parameters are not trained.
            drop_path_rate: chance to skip the last residual block in training, see arXiv
                1603.09382; that of earlier blocks is proportionally smaller.

        Raises:
            ValueError: timm is not installed or has no such model, or the model has no such layer,
                no such strides, takes one image size alone or never skips blocks.
        """
        super().__init__()
        self.body = _create(name, drop_path_rate or None)
        maps = _maps_by_stride(name, self.body)
        self._indices = self.body.prune_intermediate_layers(list(maps), prune_norm=True)
        self._check_sizes(name)
        channels = list(maps.values())
        self.pyramid = SimplePyramid(channels[0]) if len(maps) == 1 else None
        if self.pyramid is not None:
            channels = self.pyramid.channels
        # Detectron2's names by stride.
        self._shapes = {
            f"res{stride.bit_length() - 1}": ShapeSpec(channels=width, stride=stride)
            for stride, width in zip(_STRIDES, channels, strict=True)
        }
        self._freeze(name, freeze_norm, frozen_layers)

    def _freeze(self, name: str, freeze_norm: bool, frozen_layers: Sequence[str]) -> None:
        layers = dict(self.body.named_modules())
        for layer in frozen_layers:
            if layer not in layers or not any(True for _ in layers[layer].parameters()):
                raise ValueError(
                    f"MODEL.TIMM.FROZEN_LAYERS has '{layer}', which is no layer of {name} up to "
                    "its last map."
                )
            layers[layer].requires_grad_(False)
        for module in layers.values() if freeze_norm else ():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    @torch.no_grad()
    def _check_sizes(self, name: str) -> None:
        if any(parameter.is_meta for parameter in self.body.parameters()):
            return  # built for its modules alone; not every operator runs there
        was_training = self.body.training
        self.body.eval()
        try:
            self._intermediates(torch.zeros(1, 3, 96, 192))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"MODEL.TIMM.NAME is '{name}', which does not take images of any size "
                f"({' '.join(str(error).split()).rstrip('.')}); choose a network that does."
            ) from None
        self.body.train(was_training)

    def _intermediates(self, x: Tensor) -> list[Tensor]:
        return self.body.forward_intermediates(
            x, indices=self._indices, output_fmt="NCHW", intermediates_only=True
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W), sides multiples of 32, to the feature maps by level name."""
        maps = self._intermediates(x)
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        return dict(zip(self._shapes, maps, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self._shapes

    @property
    def size_divisibility(self) -> int:
        return _STRIDES[-1]


def _create(name: str, drop_path_rate: float | None) -> Any:
    """Build a classifier of timm that can give its feature maps, for images of any size."""
    try:
        import timm
    except ImportError:
        raise ValueError(
            "MODEL.BACKBONE.NAME is 'build_timm_fpn_backbone', but timm is not installed: run "
            '`pip install "clq[timm]"`.'
        ) from None
    if not timm.is_model(name):
        raise ValueError(
            f"MODEL.TIMM.NAME is '{name}', which timm {timm.__version__} does not have; "
            "timm.list_models() lists the names."
        )
    pretrained = timm.get_pretrained_cfg(name)
    takes_one_size = pretrained is not None and pretrained.fixed_input_size
    for options in _ANY_SIZE if takes_one_size else ({},):
        try:
            model = timm.create_model(
                name, pretrained=False, drop_path_rate=drop_path_rate, **options
            )
        except TypeError as error:  # an option that the network does not have
            problem = error
            continue
        if hasattr(model, "forward_intermediates") and hasattr(model, "prune_intermediate_layers"):
            return model
        raise ValueError(
            f"MODEL.TIMM.NAME is '{name}', which gives no feature maps; choose a network that does."
        )
    raise ValueError(
        f"MODEL.TIMM.NAME is '{name}', which can't be built with MODEL.TIMM.DROP_PATH_RATE "
        f"{drop_path_rate or 0} ({problem}); set that to 0."
    )


def _maps_by_stride(name: str, model: nn.Module) -> dict[int, int]:
    """Channels by index of the last maps of strides 8, 16 and 32, or of the one stride there is."""
    info: Any = model.feature_info
    maps = {stage["reduction"]: (i, stage["num_chs"]) for i, stage in enumerate(info)}
    strides = [_ONE_STRIDE] if set(maps) == {_ONE_STRIDE} else _STRIDES
    if not set(strides) <= set(maps):
        raise ValueError(
            f"MODEL.TIMM.NAME is '{name}', whose maps have stride {', '.join(map(str, maps))}; "
            "choose a network with 8, 16 and 32, or with 16 alone."
        )
    return dict(maps[stride] for stride in strides)


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A network of timm with the pyramid of CLQ, P3 .. P7."""
    options = cfg.MODEL.TIMM
    bottom_up = TimmFeatures(
        options.NAME,
        freeze_norm=options.FREEZE_NORM,
        frozen_layers=options.FROZEN_LAYERS,
        drop_path_rate=options.DROP_PATH_RATE,
    )
    return build_fpn(cfg, bottom_up, FixedStatisticsFPN if options.FREEZE_NORM else FPN)
