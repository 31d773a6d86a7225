"""Settings of a detector for tests to change."""

from clq.runtime.metadata import Settings

SETTINGS = Settings(
    class_names=("bar", "düne: 'x'"),
    channel_order="RGB",
    bit_depth=8,
    min_size=320,
    max_size=533,
    size_divisor=32,
    strides=(8, 16, 32, 64, 128),
    score_threshold=0.05,
    nms_threshold=0.6,
    topk=1000,
    candidate_rule="pairs",
    max_detections=100,
    augment=False,
    augment_min_sizes=(400, 500),
    augment_max_size=4000,
    augment_flip=True,
    augment_merge="nms",
    tile=0,
    tile_overlap=0.2,
    tile_whole=False,
)
