"""Input format, mean and std by source of the pretrained weights.

The same table says where its stages stride, which depends on the origin too.
"""

from typing import Any

__all__ = ["IMAGENET_SETTINGS", "PIXEL_KEYS", "pixel_settings_of"]

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
# Of torchvision's and mmdetection's networks; the lists are not to be changed.
IMAGENET_SETTINGS: dict[str, Any] = dict(zip(PIXEL_KEYS, _IMAGENET, strict=True))

# By how an address of MODEL.WEIGHTS starts, values in the order of PIXEL_KEYS.
_ORIGINS = {
    "detectron2://ImageNetPretrained/MSRA/": _MSRA,
    "detectron2://ImageNetPretrained/FAIR/": _FAIR,
    "detectron2://ImageNetPretrained/torchvision/": _IMAGENET,
    "clq://": _IMAGENET,
}


def pixel_settings_of(weights: str) -> dict[str, Any]:
    """Configuration keys that the weights at an address need; none for an unknown origin.

    Args:
        weights: as ``MODEL.WEIGHTS``.
    """
    for start, values in _ORIGINS.items():
        if weights.startswith(start):
            return dict(zip(PIXEL_KEYS, values, strict=True))
    return {}
