"""Output-folder checks: refuse to overwrite, verify that a run may resume."""

import os
import re
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...checkpoint.identify import identify_weights
from ...checkpoint.output_dir import find_last, list_checkpoints, list_detectors
from ...checkpoint.read_file import normalize_path
from ...config import flatten
from ...config.serialize import dump_config, parse_config
from ...utils.atomic_write import write_atomically

# Files of a run, by their path in OUTPUT_DIR.
_WRITTEN = re.compile(
    r"(ema/)?(inference/|model_|(config\.yaml|last_checkpoint|log\.txt|(metrics|results)\.json)$)"
)
_LEAST_SPACE = 1 << 20  # bytes; a detector of any use takes more
# Keys whose effect lies in the checkpoint, so that another value would be ignored.
_IN_CHECKPOINT = (
    "SEED",
    "SOLVER.BASE_LR",
    "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.MOMENTUM",
    "SOLVER.NESTEROV",
    "SOLVER.OPTIMIZER",
    "SOLVER.WEIGHT_DECAY",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.WEIGHT_DECAY_NORM",
)


def check_writable(folder: Path) -> None:
    """
    Raises:
        OSError: nothing can be written into the folder, or its disk is full; it is made if need be.
    """
    probe = folder / ".clq_probe"
    try:
        write_atomically(probe, bytes(_LEAST_SPACE))
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"OUTPUT_DIR {folder} can't be written to ({error.strerror or error}); name another."
        ) from error


def check_inputs_stay(cfg: CfgNode, *, eval_only: bool, resume: bool) -> None:
    """Refuse inputs in ``OUTPUT_DIR`` that the run would write over.

    Args:
        cfg: of the run, whose data sets are registered.
        eval_only: the run writes no weights.
        resume: the weights are not read.

    Raises:
        ValueError: naming the file.
    """
    names = cfg.DATASETS.TEST if eval_only else (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    inputs = [MetadataCatalog.get(name).get("json_file") for name in names]
    inputs += [] if eval_only or resume else [normalize_path(cfg.MODEL.WEIGHTS)]
    home = os.path.realpath(cfg.OUTPUT_DIR)
    for path in filter(None, inputs):
        if _WRITTEN.match(os.path.relpath(os.path.realpath(path), home)):
            raise ValueError(
                f"{path} lies in OUTPUT_DIR {cfg.OUTPUT_DIR} under a name that the run writes; "
                "name another OUTPUT_DIR."
            )


def check_output_folder(cfg: CfgNode, class_names: list[str], *, resume: bool) -> list[str]:
    """Refuse a training that would overwrite another, or go on from one that it is not.

    Args:
        cfg: of the training.
        class_names: that it learns.
        resume: whether it is to go on from what is in the folder.

    Returns:
        A note for the log on what will be resumed; none without ``resume``.

    Raises:
        ValueError: naming the folder, or the key that is not that of the checkpoint.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if not resume:
        found = list_checkpoints(folder)
        if found:
            raise ValueError(
                f"{folder} holds checkpoints of an earlier training, such as {found[0].name}; go "
                "on from them with --resume, or name another OUTPUT_DIR."
            )
        finished = list_detectors(folder)
        if finished:
            raise ValueError(
                f"{finished[0]} is of an earlier training, which this one would write over; name "
                "another OUTPUT_DIR."
            )
        return []
    last = find_last(folder, trusted=cfg.MODEL.TRUST_WEIGHTS)
    if last is None:
        return [f"There is no checkpoint in {folder} to resume; the training starts anew."]
    content = identify_weights(last.content, last.path)
    if "config" not in content.metadata:
        raise ValueError(
            f"{last.path} has no configuration inside, so that it is no checkpoint of a training "
            "of CLQ; to start from it, name it by --weights, with another OUTPUT_DIR."
        )
    if content.class_names is not None and content.class_names != class_names:
        raise ValueError(
            f"{last.path} has learned the classes {content.class_names}, but the data has "
            f"{class_names}; --resume needs the same."
        )
    now = parse_config(dump_config(cfg))  # as the other: the keys of a recipe, in types of yaml
    _check_same(parse_config(content.metadata["config"]), now, last.path)
    return [f"Resuming from {last.path}."]


def _check_same(saved: CfgNode, cfg: CfgNode, path: Path) -> None:
    """Reject another value of a key that doesn't fit the checkpoint or would be ignored."""
    before = dict(flatten(saved))
    for key, value in flatten(cfg):
        is_of_model = key.startswith("MODEL.") and not key.endswith("_TEST")
        if (is_of_model or key in _IN_CHECKPOINT) and before[key] != value:
            raise ValueError(
                f"{key} is {value!r}, but {path} was trained with {before[key]!r}; --resume needs "
                "the same value, or start another training in another OUTPUT_DIR."
            )
