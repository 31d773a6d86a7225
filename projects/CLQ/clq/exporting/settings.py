"""Settings of a configuration: how a detector sees an image, and which of its boxes count."""

from collections.abc import Sequence

from detectron2.config import CfgNode

from ..runtime.metadata import Settings


def settings_of(
    cfg: CfgNode, class_names: Sequence[str], *, size_divisor: int, strides: Sequence[int]
) -> Settings:
    """Read ``INPUT``, ``MODEL.CLQ`` and ``TEST`` as inference uses them.

    Args:
        cfg: of the detector.
        class_names: by class index.
        size_divisor: of the height and width of a batch, in pixels; 0 for any.
        strides: of the levels, in pixels.
    """
    options, views = cfg.MODEL.CLQ, cfg.TEST.AUG
    return Settings(
        class_names=tuple(class_names),
        channel_order=cfg.INPUT.FORMAT,
        bit_depth=cfg.INPUT.BIT_DEPTH,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        size_divisor=max(size_divisor, 1),
        strides=tuple(strides),
        score_threshold=options.SCORE_THRESH_TEST,
        nms_threshold=options.NMS_THRESH_TEST,
        topk=options.TOPK_CANDIDATES_TEST,
        candidate_rule=options.CANDIDATE_RULE_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        augment=views.ENABLED,
        augment_min_sizes=tuple(views.MIN_SIZES),
        augment_max_size=views.MAX_SIZE,
        augment_flip=views.FLIP,
        augment_merge=views.MERGE,
        tile=cfg.TEST.TILE,
        tile_overlap=cfg.TEST.TILE_OVERLAP,
        tile_whole=cfg.TEST.TILE_WHOLE,
    )
