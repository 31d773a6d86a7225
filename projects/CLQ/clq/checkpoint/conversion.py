"""Convert any file of a detector to a checkpoint that is enough for inference."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from safetensors.torch import save
from torch import Tensor

from ..config import get_clq_cfg
from ..config.errors import friendly_config_errors
from ..config.read_yaml import merge_config_file
from ..config.serialize import dump_config
from ..utils.atomic_write import explain_write_errors, write_atomically
from .detector import build_detector, class_names_of
from .identify import read_weights
from .mmdet import Spare
from .read_file import SHA256, normalize_path, safetensors_checksum
from .weights_file import WeightsFile

_FORMATS = (".safetensors", ".pth")


def convert(
    source: str,
    target: str | Path,
    *,
    spare: Spare = Spare.DROP_IF_SILENT,
    trusted: bool = False,
    config_file: str = "",
    opts: Sequence[str] = (),
) -> list[str]:
    """Read a detector, check that it is complete, and write it with its configuration.

    Args:
        source: file or address.
        target: ``.safetensors`` or ``.pth``; not written unless all is well.
        spare: treatment of the spare class channel in the CLQ authors' released head.
        trusted: let a pickle run code.
        config_file: yaml of the detector, for a file that does not hold or show it.
        opts: configuration keys and values that override all others.

    Returns:
        Notes on what was done, a sentence each.

    Raises:
        ValueError: naming what is wrong.
    """
    target = Path(target)
    if target.suffix not in _FORMATS:
        raise ValueError(f"{target} must end in {' or '.join(_FORMATS)}.")
    path = Path(PathManager.get_local_path(normalize_path(source)))
    if path.exists() and target.exists() and path.samefile(target):
        raise ValueError(f"{target} is the file to convert; give the new one another name.")
    weights = read_weights(path, trusted=trusted, spare=spare)
    if weights.kind != "detector":
        raise ValueError(
            f"{source} holds a backbone, which needs no conversion: name it by MODEL.WEIGHTS of "
            "train_net.py."
        )
    cfg = _config_of(weights, source, config_file, opts)
    cfg.MODEL.DEVICE = "cpu"
    model = build_detector(weights, cfg, source)
    class_names = class_names_of(weights, cfg, source)
    write_detector(target, model.state_dict(), dump_config(cfg), class_names)
    options = cfg.MODEL.CLQ
    backbone = f"ResNet-{cfg.MODEL.RESNETS.DEPTH}"
    if "torchvision" in cfg.MODEL.BACKBONE.NAME:
        backbone = cfg.MODEL.TORCHVISION.NAME
    elif "timm" in cfg.MODEL.BACKBONE.NAME:
        backbone = cfg.MODEL.TIMM.NAME
    parts = [f"{key} {options[key]}" for key in ("BOX_CODING", "QUALITY", "ALIGNMENT")]
    return [
        *weights.notes,
        *(
            note
            for key, note in weights.inferred_keys.items()
            if not config_file and key not in opts
        ),
        f"Wrote {target}: {len(class_names)} classes, {backbone}, "
        f"{options.NUM_GROUPS} groups in GroupNorm, {', '.join(parts)}.",
    ]


def write_detector(
    path: Path, tensors: Mapping[str, Tensor], config: str, class_names: Sequence[str]
) -> None:
    """Write atomically a checkpoint that :func:`load_detector` reads.

    Args:
        path: ends in ``.safetensors`` or ``.pth``.
        tensors: by the model's names.
        config: yaml of :func:`dump_config`.
        class_names: in the order of the class indices.

    Raises:
        OSError: naming the path.
    """
    if path.suffix == ".safetensors":
        file = _safetensors(tensors, config, class_names)
    else:
        buffer = io.BytesIO()
        content = {"model": dict(tensors), "config": config, "class_names": list(class_names)}
        torch.save(content, buffer)
        file = buffer.getvalue()
    with explain_write_errors(path):
        write_atomically(path, file)


def _safetensors(tensors: Mapping[str, Tensor], config: str, class_names: Sequence[str]) -> bytes:
    """Content of a ``.safetensors`` file with a checksum of tensors and metadata."""
    metadata = {"format": "pt", "config": config, "class_names": json.dumps(list(class_names))}
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    checksum = safetensors_checksum(save(on_cpu, metadata), metadata)
    return save(on_cpu, {**metadata, SHA256: checksum})


def _config_of(weights: WeightsFile, source: str, config_file: str, opts: Sequence[str]) -> CfgNode:
    """The configuration inside the file or of the yaml, with the class count of the tensors."""
    if config_file:
        cfg = get_clq_cfg()
        merge_config_file(cfg, config_file)
        cfg.merge_from_list([part for item in weights.pixel_settings.items() for part in item])
        cfg.MODEL.CLQ.NUM_CLASSES = weights.num_classes or cfg.MODEL.CLQ.NUM_CLASSES
    elif weights.config is not None:
        cfg = weights.config
    else:
        raise ValueError(f"{source} has no configuration inside; name its yaml by --config-file.")
    with friendly_config_errors(cfg, keys=opts[::2]):
        cfg.merge_from_list(list(opts))
    if cfg.MODEL.META_ARCHITECTURE != "CLQ":
        raise ValueError(f"{config_file} is no config of CLQ.")
    return cfg
