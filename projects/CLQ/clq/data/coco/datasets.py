"""Register the data sets that a configuration names by their files."""

from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode

from ..formats.source import parse_source, resolve_data
from ..formats.voc import annotation_folder
from .register import class_difference, register_coco_json
from .table import CocoFiles

# Names of the two data sets in logs and in results.json.
TRAIN, VAL = "train", "val"


def register_json_datasets(cfg: CfgNode) -> None:
    """Register ``DATASETS.TRAIN_JSON`` and ``VAL_JSON``, which replace the named data sets.

    Sets ``DATASETS.TRAIN``, ``DATASETS.TEST`` and ``MODEL.CLQ.NUM_CLASSES``, and lets images
    without objects train as negatives. Does nothing if neither is given.

    Args:
        cfg: not frozen; changed in place.

    Raises:
        OSError: a file can't be read.
        ValueError: unusable data, or two data sets whose classes differ.
    """
    train = _pairs("DATASETS.TRAIN_JSON", TRAIN, cfg.DATASETS.TRAIN_JSON)
    val = _pairs("DATASETS.VAL_JSON", VAL, cfg.DATASETS.VAL_JSON)
    classes = [
        register_coco_json(name, *pair, needs_labels=name in train)
        for name, pair in (train | val).items()
    ]
    if not classes:
        return
    for others in classes[1:]:
        difference = class_difference(classes[0], others)
        if difference:
            text = "the classes of the training and evaluation data differ in"
            raise ValueError(f"{text} {difference}{_how_to_name(train | val)}")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = tuple(train), tuple(val)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.MODEL.CLQ.NUM_CLASSES = len(classes[0])


def _pairs(key: str, role: str, paths: Sequence[str]) -> dict[str, CocoFiles]:
    """Files by the data set's name, such as val, val_2 and val_3.

    Args:
        key: of the configuration.
        role: ``train`` or ``val``.
        paths: annotations and image folder in turn; the folder is empty for that of the data.
    """
    paths = [*paths, ""] if len(paths) == 1 else paths
    if len(paths) % 2:
        raise ValueError(
            f"{key} is {tuple(paths)}; it must be annotations and their image folder, of each data "
            "set."
        )
    pairs = [resolve_data(*pair, role=role) for pair in zip(paths[::2], paths[1::2])]
    return {f"{role}_{i}" if i > 1 else role: pair for i, pair in enumerate(pairs, start=1)}


def _how_to_name(data: Mapping[str, CocoFiles]) -> str:
    """Tell how to fix the classes of Pascal VOC, which each folder's xml files name."""
    folders = [parse_source(files.json_file)[0] for files in data.values()]
    is_voc = any(folder.is_dir() and annotation_folder(folder) for folder in folders)
    return "; a classes.txt in each folder names the same, one a line" if is_voc else ""
