"""Checks of data sets and batch size that need the whole configuration."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...data.coco.register import class_difference, take_over_coco_instances
from ...data.formats.read import exists
from ...data.records import check_image_ids, check_labels, read_data_set

_USUAL_THRESHOLD = 0.05  # MODEL.CLQ.SCORE_THRESH_TEST at its default


def check_datasets(cfg: CfgNode, *, eval_only: bool) -> None:
    """Reject data that is missing, or whose number of classes is not the model's.

    Raises:
        ValueError: naming the key or the data set.
    """
    key, flag = ("TEST", "--val") if eval_only else ("TRAIN", "--train")
    if not cfg.DATASETS[key]:
        raise ValueError(
            f"DATASETS.{key} names no data set, or --train and --val replaced it; "
            f"give one by {flag}."
        )
    for name in dict.fromkeys(_all_datasets(cfg)):
        if name not in DatasetCatalog.list():
            raise ValueError(
                f"there is no data set of the name '{name}'; --train and --val take COCO, YOLO and "
                "VOC files."
            )
        if name in cfg.DATASETS.TEST or not eval_only:
            _load_and_check(cfg, name, for_training=not eval_only and name in cfg.DATASETS.TRAIN)
        classes = MetadataCatalog.get(name).get("thing_classes")
        if classes is not None and len(classes) != cfg.MODEL.CLQ.NUM_CLASSES:
            raise ValueError(
                f"MODEL.CLQ.NUM_CLASSES is {cfg.MODEL.CLQ.NUM_CLASSES}, but the data set '{name}' "
                f"has {len(classes)} classes."
            )
    if not eval_only:
        _check_same_classes(cfg)


def _load_and_check(cfg: CfgNode, name: str, *, for_training: bool) -> None:
    """Load a data set whose classes only its records tell, and check them."""
    metadata = MetadataCatalog.get(name)
    json_file = metadata.get("json_file")
    if json_file is not None and not exists(json_file):
        return  # check_annotation_files tells of it
    take_over_coco_instances(name, needs_labels=for_training)
    known = ("thing_classes", "thing_dataset_id_to_contiguous_id")
    if None not in map(metadata.get, known):
        return
    records = read_data_set(name)
    if name in cfg.DATASETS.TEST:
        check_image_ids(name, records)
    classes = MetadataCatalog.get(name).get("thing_classes")
    if classes is None or len(classes) == cfg.MODEL.CLQ.NUM_CLASSES:
        check_labels(name, records, cfg.MODEL.CLQ.NUM_CLASSES, for_training=for_training)


def _check_same_classes(cfg: CfgNode) -> None:
    """Reject data sets that give the same class index to classes of other names."""
    names = dict.fromkeys(_all_datasets(cfg))
    named = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    first, *others = [name for name in names if named[name]] or [""]
    for other in others:
        difference = class_difference(named[first], named[other])
        if difference:
            raise ValueError(
                f"the classes of the data sets '{first}' (training) and '{other}' (evaluation) "
                f"differ in {difference}; register both with the same, in the same order."
            )


def check_annotation_files(cfg: CfgNode, *, eval_only: bool) -> None:
    """Reject data sets of Detectron2's own catalog that are not on this machine.

    Raises:
        ValueError: naming the data set and its file.
    """
    names: Sequence[str] = cfg.DATASETS.TEST if eval_only else _all_datasets(cfg)
    for name in names:
        json_file = MetadataCatalog.get(name).get("json_file")
        if json_file is not None and not exists(json_file):
            raise ValueError(
                f"the data set '{name}' has no {json_file}; set DETECTRON2_DATASETS to the folder "
                "that holds it, or name your own data by --train and --val."
            )


def check_batch_size(cfg: CfgNode, world_size: int) -> None:
    """Reject a batch that can't be shared out evenly.

    Raises:
        ValueError: naming the batch size.
    """
    batch_size, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION.MICRO_BATCHES
    # Detectron2 fits the batch to the processes, from the number that it is written for.
    world_size = cfg.SOLVER.REFERENCE_WORLD_SIZE or world_size
    if batch_size < 1 or batch_size % world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch_size}; it must be positive and a multiple of the "
            f"number of processes, {world_size}."
        )
    if batch_size // world_size % parts:
        raise ValueError(
            f"SOLVER.ACCUMULATION.MICRO_BATCHES is {parts}, but of SOLVER.IMS_PER_BATCH = "
            f"{batch_size} each of {world_size} processes has {batch_size // world_size} "
            "images, which that does not divide."
        )


def weigh_limits(cfg: CfgNode, *, eval_only: bool) -> list[str]:
    """Notes for the log on limits that are likely to be meant otherwise."""
    solver, options, limit = cfg.SOLVER, cfg.MODEL.CLQ, cfg.TEST.DETECTIONS_PER_IMAGE
    notes = []
    if solver.WARMUP_ITERS >= solver.MAX_ITER and not eval_only:
        notes.append(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is no less than SOLVER.MAX_ITER "
            f"{solver.MAX_ITER}, so that the learning rate never reaches SOLVER.BASE_LR."
        )
    if options.TOPK_CANDIDATES_TEST < limit:
        notes.append(
            f"MODEL.CLQ.TOPK_CANDIDATES_TEST {options.TOPK_CANDIDATES_TEST} lets each level find "
            f"no more objects than that, though TEST.DETECTIONS_PER_IMAGE is {limit}."
        )
    if options.SCORE_THRESH_TEST > _USUAL_THRESHOLD and cfg.DATASETS.TEST:
        notes.append(
            f"MODEL.CLQ.SCORE_THRESH_TEST {options.SCORE_THRESH_TEST} leaves out detections that "
            f"AP would count; its default is {_USUAL_THRESHOLD}."
        )
    return notes


def _all_datasets(cfg: CfgNode) -> tuple[str, ...]:
    return (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
