"""Register the data sets that a configuration names by their json."""

from detectron2.config import CfgNode

from .register import check_same_classes, register_coco_json

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
    pairs = {TRAIN: cfg.DATASETS.TRAIN_JSON, VAL: cfg.DATASETS.VAL_JSON}
    classes = {
        name: register_coco_json(name, *pair, needs_labels=name == TRAIN)
        for name, pair in pairs.items()
        if pair
    }
    if not classes:
        return
    if len(classes) == 2:
        check_same_classes(classes[TRAIN], classes[VAL])
    cfg.DATASETS.TRAIN = (TRAIN,) if TRAIN in classes else ()
    cfg.DATASETS.TEST = (VAL,) if VAL in classes else ()
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.MODEL.CLQ.NUM_CLASSES = len(next(iter(classes.values())))
