"""Settings that MODEL.WEIGHTS implies: a detector's whole config, a backbone's input format."""

import os
from collections.abc import Collection
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...checkpoint import WeightsFile, read_weights
from ...checkpoint.output_dir import list_checkpoints
from ...checkpoint.pixel_settings import PIXEL_KEYS, pixel_settings_of
from ...checkpoint.read_file import no_weights, normalize_path
from ...config import flatten
from ...config.serialize import parse_config
from ...data.user_augmentation import is_user_function
from ...runtime.exported import is_exported
from ...runtime.sessions import open_session
from .options import RunOptions

# Of MODEL.CLQ: what is decided behind the graph of an exported file.
_AFTER_GRAPH = ("SCORE_THRESH_TEST", "NMS_THRESH_TEST", "TOPK_CANDIDATES_TEST")
_FREE_KEYS = {"MODEL.WEIGHTS", *(f"MODEL.CLQ.{key}" for key in _AFTER_GRAPH)}


def read_configured_weights(cfg: CfgNode, options: RunOptions) -> WeightsFile | None:
    """Read the file of ``MODEL.WEIGHTS``.

    Args:
        cfg: into which the config file is merged, if there is one.
        options: whose keys go before; without a config file, an address is fetched.

    Returns:
        None if the key is empty, names a known backbone, or a file that is not at hand.

    Raises:
        ValueError: the file can't be read, or is rejected.
    """
    weights = options.given.get("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS)
    if not weights or pixel_settings_of(weights):
        return None
    plain = normalize_path(os.path.expanduser(weights))
    if is_exported(plain) and options.eval_only:
        return _read_exported(plain, options)
    path = plain if options.config_file else PathManager.get_local_path(plain)
    if not os.path.isfile(path):  # check_source tells of it, if the file is needed
        return None
    trusted = str(options.given.get("MODEL.TRUST_WEIGHTS", cfg.MODEL.TRUST_WEIGHTS)) == "True"
    return read_weights(path, trusted=trusted)


def _read_exported(path: str, options: RunOptions) -> WeightsFile:
    """Read configuration and class names of an exported file, which has no tensors.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no exported detector, or an option would change its graph.
    """
    if not os.path.isfile(path):
        raise ValueError(no_weights(path))
    if options.config_file:
        raise ValueError(
            f"{path} is an exported file, which has its own configuration; leave --config out."
        )
    for key, value in options.given.items():
        is_fixed = key.startswith("MODEL.") or key == "INPUT.FORMAT"
        is_on_cpu = key == "MODEL.DEVICE" and value == "cpu"
        if is_fixed and key not in _FREE_KEYS and not is_on_cpu:
            raise ValueError(
                f"{key} is {value}, but the graph of an exported file is fixed and runs on CPU; "
                f"leave it out, or evaluate the checkpoint that {path} was exported from."
            )
    metadata = open_session(path).metadata
    class_names = list(metadata.settings.class_names)
    config = parse_config(metadata.config)
    return WeightsFile("detector", {}, config=config, class_names=class_names)


def check_source(cfg: CfgNode, contents: WeightsFile | None, options: RunOptions) -> None:
    """Reject weights that are missing, and a run that nothing gives a config of CLQ.

    Args:
        cfg: with all of the user's keys.
        contents: of ``MODEL.WEIGHTS``, if it is at hand.
        options: of the run.

    Raises:
        ValueError: naming the weights, or how to name a config.
    """
    weights = cfg.MODEL.WEIGHTS
    path = normalize_path(weights)
    is_missing = bool(path) and "://" not in path and not os.path.isfile(path)
    replaced = options.resume and not options.eval_only and list_checkpoints(Path(cfg.OUTPUT_DIR))
    if is_missing and not replaced:
        raise ValueError(no_weights(weights))
    if cfg.MODEL.META_ARCHITECTURE == "CLQ":
        return
    if not weights or options.config_file or (contents and contents.config):
        raise ValueError(
            f"MODEL.META_ARCHITECTURE is '{cfg.MODEL.META_ARCHITECTURE}', not CLQ; "
            "name a config of CLQ by --config-file, or a checkpoint with one by MODEL.WEIGHTS."
        )
    if contents is None and not pixel_settings_of(weights):
        raise ValueError(no_weights(weights))
    if contents is None or contents.kind != "detector":
        raise ValueError(
            f"{weights} is a backbone, which does not tell the detector: use --config-file."
        )
    raise ValueError(f"{weights} has no configuration inside; name its yaml by --config-file.")


def check_user_functions(cfg: CfgNode, options: RunOptions) -> None:
    """Reject code that the config inside ``MODEL.WEIGHTS`` names, which may be a stranger's.

    Args:
        cfg: of a training run.
        options: of the run.

    Raises:
        ValueError: naming the functions.
    """
    key = "INPUT.AUGMENTATIONS"
    names = [name for name in cfg.INPUT.AUGMENTATIONS if is_user_function(name)]
    if names and not options.config_file and key not in options.given:
        raise ValueError(
            f"{cfg.MODEL.WEIGHTS} was trained with {', '.join(names)} in {key}, and a checkpoint "
            f'decides no code that runs here; give {key} "{tuple(cfg.INPUT.AUGMENTATIONS)}" if '
            f'you trust it, or {key} "()".'
        )


def match_input_format(
    cfg: CfgNode, contents: WeightsFile | None, given: Collection[str]
) -> list[str]:
    """Set input format, mean and std to those that ``MODEL.WEIGHTS`` was trained with.

    Args:
        cfg: not frozen; changed in place.
        contents: of that file, if it is at hand.
        given: keys of the command line, which stay.

    Returns:
        Notes for the log: what was changed, or that nobody knows the format.
    """
    if contents is not None and contents.kind == "detector":
        settings = contents.pixel_settings
    else:
        settings = pixel_settings_of(cfg.MODEL.WEIGHTS)
    before = dict(flatten(cfg))
    changed = {k: v for k, v in settings.items() if k not in given and before[k] != v}
    cfg.merge_from_list([part for item in changed.items() for part in item])
    notes = []
    if changed:
        listed = ", ".join(f"{key} {value}" for key, value in changed.items())
        notes.append(f"Set to what {cfg.MODEL.WEIGHTS} was trained with: {listed}.")
    is_caffe2 = contents and contents.kind == "zoo" and contents.metadata["author"] == "Caffe2"
    keys = [key for key in PIXEL_KEYS if key not in given]
    if is_caffe2 and keys:
        notes.append(
            f"{cfg.MODEL.WEIGHTS} is of Caffe2 and does not state its pixels; set "
            f"{', '.join(keys)} if it was not trained with {cfg.INPUT.FORMAT} images, mean "
            f"{list(cfg.MODEL.PIXEL_MEAN)} and deviation {list(cfg.MODEL.PIXEL_STD)}, as most of "
            "Caffe2's were not."
        )
    return notes


def check_detector(cfg: CfgNode, contents: WeightsFile | None, options: RunOptions) -> list[str]:
    """Compare a detector in ``MODEL.WEIGHTS`` with the configuration and the data of the run.

    Args:
        cfg: of the run, whose data sets are registered.
        contents: of the weights, if they are at hand.
        options: of the run.

    Returns:
        Notes for the log on what differs.

    Raises:
        ValueError: the classes of the evaluated data differ, or the groups of GroupNorm, which no
            tensor shows.
    """
    if contents is None or contents.kind != "detector":
        return []
    # Where the numbers of classes differ, the checkpointer rejects them.
    names_tell = bool(contents.class_names) and contents.num_classes == cfg.MODEL.CLQ.NUM_CLASSES
    if options.eval_only and (names_tell or not options.config_file):
        for name in cfg.DATASETS.TEST:
            _check_classes(contents, cfg.MODEL.WEIGHTS, name)
    if contents.config is None:
        return []
    own, used, key = contents.config.MODEL.CLQ, cfg.MODEL.CLQ, "MODEL.CLQ.NUM_GROUPS"
    if key not in contents.inferred_keys and own.NUM_GROUPS != used.NUM_GROUPS:
        raise ValueError(
            f"{key} is {used.NUM_GROUPS}, but {cfg.MODEL.WEIGHTS} was trained with "
            f"{own.NUM_GROUPS}: give {key} {own.NUM_GROUPS}, or correct the file by "
            "tools/convert_checkpoint.py."
        )
    return _differences(cfg, contents, options)


def _differences(cfg: CfgNode, contents: WeightsFile, options: RunOptions) -> list[str]:
    """Notes on a detector's own configuration and the one that is used."""
    assert contents.config is not None
    notes = []
    if not options.config_file:
        notes += [note for key, note in contents.inferred_keys.items() if key not in options.given]
    if "config" not in contents.metadata:  # it was read off the tensors, which tell no schedule
        if not options.eval_only and not options.config_file:
            notes.append(
                f"{cfg.MODEL.WEIGHTS} tells no schedule, so that of Detectron2's defaults is used; "
                "--config-file sets one."
            )
        return notes
    own, used = contents.config.MODEL.CLQ, cfg.MODEL.CLQ
    # The checkpointer speaks of the number of classes.
    changed = [k for k in used if k != "NUM_CLASSES" and k in own and own[k] != used[k]]
    if changed:
        listed = ", ".join(f"MODEL.CLQ.{k} {used[k]} for {own[k]}" for k in changed)
        notes.append(f"Set to other than {cfg.MODEL.WEIGHTS} was trained with: {listed}.")
    return notes


def _check_classes(contents: WeightsFile, weights: str, dataset: str) -> None:
    """Reject the evaluation of a detector on a data set of other classes than it has learned."""
    names = MetadataCatalog.get(dataset).get("thing_classes")
    number = contents.num_classes
    if names is None or number is None or names == contents.class_names:
        return
    if contents.class_names is not None:
        raise ValueError(
            f"{weights} knows the classes {contents.class_names}, but the data set '{dataset}' "
            f"has {names}."
        )
    if len(names) != number:
        raise ValueError(
            f"{weights} knows {number} classes, but the data set '{dataset}' has {len(names)}."
        )
