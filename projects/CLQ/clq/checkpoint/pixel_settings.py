"""Input format, mean and std by source of the pretrained weights.

The position of the strided convolution depends on the source too.
"""

from typing import Any

PIXEL_KEYS = (
    "INPUT.FORMAT",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "MODEL.RESNETS.STRIDE_IN_1X1",
)
_BGR_MEAN = [103.53, 116.28, 123.675]

_IMAGENET = ("RGB", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375], False)
_MSRA = ("BGR", _BGR_MEAN, [1.0, 1.0, 1.0], True)
_FAIR = ("BGR", _BGR_MEAN, [57.375, 57.12, 58.395], False)
# Of torchvision's, timm's and most other networks; callers must not change the lists.
IMAGENET_SETTINGS: dict[str, Any] = dict(zip(PIXEL_KEYS, _IMAGENET, strict=True))

# Values in the order of PIXEL_KEYS, by the prefix of an address in MODEL.WEIGHTS.
_SOURCES = {
    "detectron2://ImageNetPretrained/MSRA/": _MSRA,
    "detectron2://ImageNetPretrained/FAIR/": _FAIR,
    "detectron2://ImageNetPretrained/torchvision/": _IMAGENET,
    "clq://": _IMAGENET,
}

_TIMM = "clq://timm/"


def pixel_settings_of(weights: str) -> dict[str, Any]:
    """Configuration keys that the weights at an address need; none for an unknown source.

    The mean and deviation of a model of timm are its own where timm is installed.

    Args:
        weights: as ``MODEL.WEIGHTS``.
    """
    if weights.startswith(_TIMM):
        return IMAGENET_SETTINGS | _timm_normalization(weights.removeprefix(_TIMM))
    for prefix, values in _SOURCES.items():
        if weights.startswith(prefix):
            return dict(zip(PIXEL_KEYS, values, strict=True))
    return {}


def _timm_normalization(model: str) -> dict[str, Any]:
    """Mean and deviation by key, on the scale of 0 to 255."""
    try:
        from timm import get_pretrained_cfg
    except ImportError:
        return {}
    found = get_pretrained_cfg(model)
    if found is None:
        return {}
    values = {"MODEL.PIXEL_MEAN": found.mean, "MODEL.PIXEL_STD": found.std}
    return {key: [round(255 * x, 3) for x in per_channel] for key, per_channel in values.items()}
