"""The subject of `clq report`: a run folder or weights, with detections on a data set."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..config import get_clq_cfg
from ..config.read_yaml import merge_config_file
from ..data.formats.read import exists, last_change
from ..data.formats.source import resolve_data
from ..evaluation.coco_evaluation import detections_file
from .run import run_in_process
from .run_config.options import RunOptions
from .run_config.setup import build_config

FINAL_WEIGHTS = "model_final.safetensors"


def find_evaluation(
    source: str, val: Sequence[str], scratch: Path, opts: Sequence[str] = ()
) -> CfgNode:
    """Find the detections of a run, or make them.

    Those in a run's folder serve if they are of its final weights and of the data in question.

    Args:
        source: folder of a complete training run, or file or address of weights.
        val: annotations and image folder, which may be empty; none for the data that the run was
            evaluated on.
        scratch: folder for an evaluation, if one is needed.
        opts: further configuration keys and values in turn.

    Returns:
        The configuration whose ``OUTPUT_DIR``, ``DATASETS.TEST`` and ``MODEL.WEIGHTS`` tell where
        the detections are, on what, and of which weights.

    Raises:
        OSError: a file can't be read or written.
        ValueError: the source is not what it should be, or can't be evaluated on the data.
    """
    options = _options(source, val, opts)
    if options.config_file:
        run_cfg = get_clq_cfg()
        merge_config_file(run_cfg, options.config_file)
        lost = _lost_data(run_cfg)
        if "TRAIN_JSON" in lost:
            options.opts = ["DATASETS.TRAIN_JSON", "()", *options.opts]
        if not opts and not (val and "VAL_JSON" in lost):
            cfg = build_config(dataclasses.replace(options, val=[], output_dir=source))
            chosen = _real(resolve_data(*val, role="val")) if val else []
            names = [name for name in cfg.DATASETS.TEST if not val or _files_of(name) == chosen]
            current = (_is_current(source, name, options.weights) for name in names)
            if names and not _names_other_weights(run_cfg, options) and all(current):
                cfg.defrost()
                cfg.DATASETS.TEST = tuple(names)
                cfg.freeze()
                return cfg
    options.output_dir = str(scratch)
    run_in_process(options)
    return build_config(options)


def _options(source: str, val: Sequence[str], opts: Sequence[str]) -> RunOptions:
    """Return the options of an evaluation.

    Raises:
        ValueError: the source is no complete run, or weights come without data.
    """
    run = Path(source)
    options = RunOptions(val=list(val), weights=source, eval_only=True)
    options.opts = ["TEST.REPORT", "False", *opts]
    if not run.is_dir():
        if not val:
            raise ValueError(
                f"{source} is no folder of a training run; weights need data, by --val DATA IMAGES."
            )
        return options
    options.weights = str(run / FINAL_WEIGHTS)
    if not (run / FINAL_WEIGHTS).is_file():
        raise ValueError(
            f"{source} has no {FINAL_WEIGHTS}, which a complete training run leaves; name a "
            "checkpoint instead, with its data by --val."
        )
    if (run / "config.yaml").is_file():
        options.config_file = str(run / "config.yaml")
    elif not val:
        raise ValueError(f"{source} has no config.yaml; name the data by --val DATA IMAGES.")
    return options


def _lost_data(cfg: CfgNode) -> list[str]:
    """Return TRAIN_JSON or VAL_JSON, if their files are not where the run found them."""
    return [
        key
        for key in ("TRAIN_JSON", "VAL_JSON")
        if not all(map(exists, cfg.DATASETS[key][::2]))
        or not all(map(os.path.exists, filter(None, cfg.DATASETS[key][1::2])))
    ]


def _files_of(dataset_name: str) -> list[str]:
    """Return the annotations and the image folder of a data set, as far as it has them."""
    metadata = MetadataCatalog.get(dataset_name)
    return _real([metadata.get("json_file") or "", metadata.get("image_root") or ""])


def _real(paths: Iterable[str | Path]) -> list[str]:
    return [os.path.realpath(os.path.expanduser(path)) for path in paths]


def _names_other_weights(cfg: CfgNode, options: RunOptions) -> bool:
    """Tell whether other weights than the final ones were evaluated in a run's folder later."""
    times = [Path(path).stat().st_mtime for path in (options.config_file, options.weights)]
    # The training writes config.yaml before the weights.
    return times[0] > times[1] and _real([cfg.MODEL.WEIGHTS]) != _real([options.weights])


def _is_current(run: str, dataset_name: str, weights: str) -> bool:
    """Tell whether a run's detections are younger than its final weights and the labels."""
    made = detections_file(run, dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    json_file, image_root = metadata.get("json_file"), metadata.get("image_root") or ""
    times = [os.stat(path).st_mtime for path in [weights] if os.path.exists(path)]
    times += [last_change(json_file, image_root)] if json_file else []
    return made.is_file() and max(times, default=0) <= made.stat().st_mtime
