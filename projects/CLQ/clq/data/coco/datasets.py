"""Register the data sets that a configuration names by their json."""

from collections.abc import Sequence

from detectron2.config import CfgNode

from .register import class_difference, register_coco_json

# Names of the two data sets in logs and in results.json.
TRAIN, VAL = "train", "val"


def register_json_datasets(cfg: CfgNode) -> None:
    """Register ``DATASETS.TRAIN_JSON`` and ``VAL_JSON``, which replace the named data sets.

    Sets ``DATASETS.TRAIN``, ``DATASETS.TEST`` and ``MODEL.CLQ.NUM_CLASSES``, and lets images
    without objects train as negatives. Does nothing if neither json is given.

    Args:
        cfg: not frozen; changed in place.

    Raises:
        ValueError: an unusable json, or two whose classes differ.
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
            text = "the classes of the training and evaluation json differ in"
            raise ValueError(f"{text} {difference}")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = tuple(train), tuple(val)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.MODEL.CLQ.NUM_CLASSES = len(classes[0])


def _pairs(key: str, name: str, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
    """JSON file and image folder by the data set's name, such as val, val_2 and val_3."""
    if len(paths) % 2:
        raise ValueError(
            f"{key} is {tuple(paths)}; it must be a json and its image folder, of each data set."
        )
    pairs = zip(paths[::2], paths[1::2])
    return {f"{name}_{i}" if i > 1 else name: pair for i, pair in enumerate(pairs, start=1)}
