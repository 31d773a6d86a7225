"""Build a detector from its checkpoint alone."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from torch import nn

from ..config import check_config
from .identify import read_weights
from .match_state_dict import match_state_dict
from .weights_file import WeightsFile

logger = logging.getLogger(__name__)


def load_detector(
    path: str | Path, device: str = "cpu", *, trusted: bool = False
) -> tuple[nn.Module, list[str]]:
    """Build the detector that a file holds, and load its weights.

    Args:
        path: ``.safetensors`` or ``.pth`` of CLQ, or a mmdetection checkpoint; any address that
            Detectron2 opens.
        device: of the model.
        trusted: let a pickle run code.

    Returns:
        The model in evaluation mode, and the K class names by index.

    Raises:
        ValueError: the file can't be read, has no configuration inside, or does not fit it.
    """
    model, _, names = load_configured(path, device, trusted=trusted)
    return model, names


def load_configured(
    path: str | Path, device: str, *, trusted: bool = False
) -> tuple[nn.Module, CfgNode, list[str]]:
    """Like :func:`load_detector`, with the configuration between model and class names."""
    weights = read_weights(PathManager.get_local_path(str(path)), trusted=trusted)
    if weights.config is None:
        raise ValueError(f"{path} has no configuration of a detector inside.")
    cfg = weights.config.clone()
    cfg.MODEL.DEVICE = device
    model = build_detector(weights, cfg, str(path), device=device)
    check_finite(model, str(path))
    for note in (*weights.notes, *weights.inferred_keys.values()):
        logger.info(note)
    try:
        return model, cfg, class_names_of(weights, cfg)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_finite(model: Any, path: str) -> None:
    """Refuse a detector whose predictions overflow, since it would find nothing without a word.

    Args:
        model: in evaluation mode.
        path: of its weights, for the message.

    Raises:
        ValueError: naming the file.
    """
    size = max(model.backbone.size_divisibility, 64)
    pixels = torch.linspace(-2, 2, size, device=model.device).expand(1, 3, size, size)
    with torch.no_grad():
        maps = model.backbone(pixels)
        predictions = model.head([maps[name] for name in model.head_in_features])
    for levels in predictions:
        if levels is not None and not all(level.isfinite().all() for level in levels):
            raise ValueError(f"{path}: the detector's predictions are not finite.")


def build_detector(
    weights: WeightsFile, cfg: CfgNode, path: str, *, device: str = "cpu"
) -> nn.Module:
    """Build the detector of a configuration with the tensors of a file, in evaluation mode.

    Args:
        weights: of the file.
        cfg: of the detector.
        path: of the file, for messages.
        device: of the model.

    Raises:
        ValueError: naming every tensor that does not fit, or what the configuration lacks.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    try:
        check_config(cfg)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        model = build_model(cfg).eval()
    except Exception as error:  # Detectron2 has many ways to say that values do not go together
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: its configuration gives no model ({reason}).") from error
    try:
        state, _ = match_state_dict(weights, model.state_dict(), may_change_classes=False)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    model.load_state_dict(state, strict=False)
    return model


def class_names_of(weights: WeightsFile, cfg: CfgNode) -> list[str]:
    """Names in the file, or ``class_0``, ``class_1`` and so on where it has none.

    Raises:
        ValueError: there are more or fewer names than classes.
    """
    num_names, num_classes = len(weights.class_names or ()), cfg.MODEL.CLQ.NUM_CLASSES
    if num_names and num_names != num_classes:
        raise ValueError(f"the file has {num_names} class names for its {num_classes} classes.")
    return weights.class_names or [f"class_{k}" for k in range(cfg.MODEL.CLQ.NUM_CLASSES)]
