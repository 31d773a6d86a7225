"""The Python API: load a detector and predict, train, evaluate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from .data.images import READ_ERRORS, ImageSource, allow_any_size, reason_of
from .engine.run import run_in_process
from .engine.run_config.options import RunOptions
from .prediction.options import ViewOptions
from .prediction.predictor import Predictor, usable_device
from .prediction.result import Result

# A COCO JSON file and its image folder; or a YOLO data.yaml, a YOLO or a Pascal VOC folder, which
# tells where its images are.
Data = str | Path | tuple[str | Path, str | Path]


class Detector:
    """A trained detector; made by :func:`load`.

    Attributes:
        class_names: by class index.
        predictor: that turns BGR arrays into Detectron2's instances.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.class_names = predictor.class_names

    @overload
    def predict(
        self,
        images: list[ImageSource],
        *,
        threshold: float = ...,
        batch_size: int = ...,
        augment: bool | None = ...,
        tile: int | None = ...,
        overlap: float | None = ...,
        whole: bool | None = ...,
    ) -> list[Result]: ...

    @overload
    def predict(
        self,
        images: ImageSource,
        *,
        threshold: float = ...,
        batch_size: int = ...,
        augment: bool | None = ...,
        tile: int | None = ...,
        overlap: float | None = ...,
        whole: bool | None = ...,
    ) -> Result: ...

    def predict(
        self,
        images: ImageSource | list[ImageSource],
        *,
        threshold: float = 0.3,
        batch_size: int = 8,
        augment: bool | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        whole: bool | None = None,
    ) -> Result | list[Result]:
        """Detect objects in an image, or in each of several.

        Args:
            images: path, file object, PIL image or (H, W, 3) uint8 RGB array; or a list of them.
            threshold: lowest joint score of a detection, in [0, 1]. Below the checkpoint's own
                ``MODEL.CLQ.SCORE_THRESH_TEST`` there are none.
            batch_size: images that pass the network together, where they are of one size. Tiles
                and augmented images pass alone.
            augment: look at each image in several sizes and mirrored, see ``TEST.AUG``.
            tile: side in pixels of the tiles that a large image is cut into; 0 does not cut.
            overlap: share of its side that a tile has in common with the next, at least.
            whole: with tiles, look at the whole image too, for objects larger than a tile.

        The last four are as the checkpoint's configuration says where they are None.

        Returns:
            A result, or a list of them for a list.

        Raises:
            ValueError: an image can't be read, or an argument lies outside of its range.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it must lie in [0, 1].")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        options = ViewOptions(augment=augment, tile=tile, overlap=overlap, whole=whole)
        predictor = self.predictor.with_options(options)
        if tile:
            allow_any_size()
        if not isinstance(images, list):
            return self._predict(predictor, [images], threshold)[0]
        results: list[Result] = []
        for start in range(0, len(images), batch_size):
            results += self._predict(predictor, images[start : start + batch_size], threshold)
        return results

    def _predict(
        self, predictor: Predictor, sources: Sequence[ImageSource], threshold: float
    ) -> list[Result]:
        images = [self._read(source) for source in sources]
        arrays = [image[:, :, ::-1] for image in images]
        found = predictor.detect_batch(arrays, batch_size=len(images))
        kept = [instances[instances.scores >= threshold] for instances in found]
        return [
            Result(
                image,
                boxes=instances.pred_boxes.tensor.numpy(),
                scores=instances.scores.numpy(),
                labels=instances.pred_classes.numpy(),
                class_names=self.class_names,
            )
            for image, instances in zip(images, kept, strict=True)
        ]

    def _read(self, source: ImageSource) -> np.ndarray:
        """Read an image as (H, W, 3) uint8, RGB."""
        source = os.path.expanduser(source) if isinstance(source, (str, os.PathLike)) else source
        try:
            return self.predictor.read(source, "RGB")
        except READ_ERRORS as error:
            name = source if isinstance(source, str) else "the image"
            raise ValueError(f"{name} can't be read ({reason_of(error)}).") from error


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
    device = usable_device("cpu" if fast and device is None else device)
    return Detector(Predictor.from_checkpoint(weights, device, fast=fast))


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
    if isinstance(data, (str, Path)):
        return str(data), ""
    return tuple(map(str, data or ()))


def _flat(opts: Mapping[str, Any] | None) -> list[str]:
    return [str(part) for item in (opts or {}).items() for part in item]


def _metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a single data set, or of each by its name."""
    if "bbox" in results:
        return dict(results["bbox"])
    return {name: dict(metrics.get("bbox", {})) for name, metrics in results.items()}
