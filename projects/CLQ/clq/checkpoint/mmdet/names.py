"""CLQ's names of the tensors of mmdetection's detectors, and back."""

import re

from ..resnet_names import RESNET_RULES, apply_rules

# The released heads by the first part of their predictors' names.
HEADS = ("clq", "gfl", "atss")
NUM_LEVELS = 5  # of the pyramid, P3 .. P7

_NECK = {
    **{f"lateral_convs.{i}.conv": f"fpn_lateral{i + 3}" for i in range(3)},
    **{f"fpn_convs.{i}.conv": f"fpn_output{i + 3}" for i in range(3)},
    **{f"fpn_convs.{i}.conv": f"top_block.p{i + 3}" for i in (3, 4)},
}
_HEAD = {
    **{f"{head}_cls": "cls_score" for head in HEADS},
    **{f"{head}_reg": "bbox_pred" for head in HEADS},
    "retina_iou": "quality.predictor",
    "atss_centerness": "quality.predictor",
    "feature_alignment.conv_offset": "alignment.offset",
    "feature_alignment.conv_adaption": "alignment.conv",
    "cls_convs.#.conv": "cls_subnet.#",
    "cls_convs.#.gn": "cls_subnet.#.norm",
    "reg_convs.#.conv": "bbox_subnet.#",
    "reg_convs.#.gn": "bbox_subnet.#.norm",
}
_RULES = {
    **{f"backbone.{theirs}": f"backbone.bottom_up.{ours}" for theirs, ours in RESNET_RULES.items()},
    **{f"neck.{theirs}": f"backbone.{ours}" for theirs, ours in _NECK.items()},
    **{f"bbox_head.{theirs}": f"head.{ours}" for theirs, ours in _HEAD.items()},
}
_LEVEL_SCALE = re.compile(rf"bbox_head\.scales\.[0-{NUM_LEVELS - 1}]\.scale")


def is_ignored_buffer(name: str) -> bool:
    """Tell whether a tensor is a counter or a constant, which our modules do without."""
    return name.endswith(("num_batches_tracked", "integral.project"))


def is_level_scale(name: str) -> bool:
    """Tell whether a tensor is the scale of one level."""
    return _LEVEL_SCALE.fullmatch(name) is not None


def is_of_another_head(name: str, head: str) -> bool:
    """Tell whether a tensor or module is a part that a head does not have.

    Args:
        name: such as ``bbox_head.atss_cls.weight``.
        head: of :data:`HEADS`.
    """
    others = [f"bbox_head.{other}_" for other in HEADS if other != head]
    if head == "atss":
        others.append("bbox_head.retina_iou")
    return name.startswith(tuple(others))


def from_mmdet_name(name: str) -> str | None:
    """Our name of a tensor of mmdetection; None if we have no such part.

    Args:
        name: such as ``neck.lateral_convs.0.conv.weight``. The level scales, which are one tensor
            here, have no name of their own.
    """
    return apply_rules(name, _RULES)


def to_mmdet_name(name: str, head: str) -> str:
    """Mmdetection's name of our tensor; our own if it has none.

    Args:
        name: such as ``head.cls_score.weight``.
        head: of :data:`HEADS`.
    """
    rules = {
        ours: theirs
        for theirs, ours in reversed(_RULES.items())
        if not is_of_another_head(theirs, head)
    }
    return "bbox_head.scales.*.scale" if name == "head.scales" else apply_rules(name, rules) or name
