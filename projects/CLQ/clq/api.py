"""The Python API: load a detector and predict, train, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .engine.run import run_in_process
from .engine.run_config.options import RunOptions
from .exporting.benchmark import Data
from .prediction.predictor import open_predictor
from .runtime.detector import Detector


def load(weights: str | Path, device: str | None = None, *, fast: bool = False) -> Detector:
    """Load a detector from its checkpoint alone.

    Args:
        weights: ``.safetensors`` or ``.pth`` with its configuration inside, as a training run
            writes them, or a checkpoint of mmdetection.
        device: of PyTorch; None takes CUDA where there is one.
        fast: on CPU, in bf16 where the CPU supports it, with norms folded into convolutions.

    Raises:
        ValueError: the file can't be read, has no configuration inside, or does not fit it.
    """
    return Detector(open_predictor(weights, device, fast=fast))


def train(
    config: str | Path,
    *,
    train: Data | None = None,
    val: Data | None = None,
    output_dir: str | Path = "output",
    weights: str | Path | None = None,
    resume: bool = False,
    opts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a detector in this process; ``clq train`` uses several GPUs.

    Args:
        config: name of a config that CLQ ships, such as ``"clq_R_50_FPN_1x"``, or a yaml file.
        train: data to train on: COCO JSON file and image folder, or the path of a YOLO data.yaml, a
            YOLO folder or a Pascal VOC folder; None for ``DATASETS.TRAIN``.
        val: the same to evaluate on; None for ``DATASETS.TEST``.
        output_dir: folder for checkpoints, log and results; must not hold another training run.
        weights: to start from; None for ``MODEL.WEIGHTS`` of the config.
        resume: continue from the newest checkpoint in the folder.
        opts: further configuration keys and their values.

    Returns:
        COCO metrics of the final weights, in percent; where ``DATASETS.TEST`` names several data
        sets, those of each by its name; empty without an evaluation.

    Raises:
        FloatingPointError: a loss is not finite.
        OSError: a file can't be read or written.
        ValueError: an unknown key, a value that CLQ can't use, or data with errors.
    """
    options = RunOptions(
        config_file=str(config),
        train=_strings(train),
        val=_strings(val),
        weights=str(weights or ""),
        output_dir=str(output_dir),
        opts=_flat(opts),
        resume=resume,
    )
    return _metrics(run_in_process(options))


def evaluate(
    weights: str | Path,
    *,
    val: Data | None = None,
    config: str | Path | None = None,
    output_dir: str | Path = "output",
    opts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint.

    Args:
        weights: checkpoint; without ``config`` it must hold its own.
        val: data as in :func:`train`; None for ``DATASETS.TEST``.
        config: name of a config that CLQ ships, or a yaml file.
        output_dir: folder for detections, log, ``results.json`` and the report.
        opts: further configuration keys and their values.

    Returns:
        As :func:`train`.

    Raises:
        OSError: a file can't be read or written.
        ValueError: the checkpoint can't be used, or does not fit the data.
    """
    options = RunOptions(
        config_file=str(config or ""),
        val=_strings(val),
        weights=str(weights),
        output_dir=str(output_dir),
        opts=_flat(opts),
        eval_only=True,
    )
    return _metrics(run_in_process(options))


def _strings(data: Data | None) -> tuple[str, ...]:
    """Annotations and image folder, which is empty where it is left out; nothing of nothing."""
    paths = (data,) if isinstance(data, (str, Path)) else tuple(data or ())
    return (*map(str, paths), *[""] * (len(paths) == 1))


def _flat(opts: Mapping[str, Any] | None) -> list[str]:
    return [str(part) for item in (opts or {}).items() for part in item]


def _metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a single data set, or of each by its name."""
    if "bbox" in results:
        return dict(results["bbox"])
    return {name: dict(metrics.get("bbox", {})) for name, metrics in results.items()}
