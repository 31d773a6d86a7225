"""Our names of the tensors of mmdetection's detectors and of torchvision's ResNets, and back.

A rule pairs two names of a module, where ``#`` stands for a number that both share.
"""

import re

__all__ = [
    "HEADS",
    "NUM_LEVELS",
    "is_level_scale",
    "is_no_weight",
    "is_of_another_head",
    "mmdet_name_of",
    "name_of_mmdet",
    "name_of_resnet",
]

# The released heads by the first part of their predictors' names.
HEADS = ("clq", "gfl", "atss")
NUM_LEVELS = 5  # of the pyramid, P3 .. P7

_STEM = {"conv1": "stem.conv1", "bn1": "stem.conv1.norm"}
_BLOCK = {
    **{f"conv{i}": f"conv{i}" for i in (1, 2, 3)},
    **{f"bn{i}": f"conv{i}.norm" for i in (1, 2, 3)},
    "downsample.0": "shortcut",
    "downsample.1": "shortcut.norm",
    "conv2.conv_offset": "conv2_offset",
    "conv2_offset": "conv2_offset",  # the same in early releases
}
_RESNET = _STEM | {
    f"layer{stage}.#.{theirs}": f"res{stage + 1}.#.{ours}"
    for stage in range(1, 5)
    for theirs, ours in _BLOCK.items()
}
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
_DETECTOR = {
    **{f"backbone.{theirs}": f"backbone.bottom_up.{ours}" for theirs, ours in _RESNET.items()},
    **{f"neck.{theirs}": f"backbone.{ours}" for theirs, ours in _NECK.items()},
    **{f"bbox_head.{theirs}": f"head.{ours}" for theirs, ours in _HEAD.items()},
}
_KINDS = ("weight", "bias", "running_mean", "running_var")
_LEVEL_SCALE = re.compile(rf"bbox_head\.scales\.[0-{NUM_LEVELS - 1}]\.scale")


def is_no_weight(name: str) -> bool:
    """Tell whether a tensor is a counter or a constant, which our modules do without."""
    return name.endswith(("num_batches_tracked", "integral.project"))


def is_level_scale(name: str) -> bool:
    """Tell whether a tensor of a mmdetection checkpoint is the scale of one level."""
    return _LEVEL_SCALE.fullmatch(name) is not None


def is_of_another_head(name: str, head: str) -> bool:
    """Tell whether a tensor of a mmdetection checkpoint is a part that a head does not have.

    Args:
        name: such as ``bbox_head.atss_cls.weight``.
        head: of :data:`HEADS`.
    """
    others = [f"bbox_head.{other}_" for other in HEADS if other != head]
    if head == "atss":
        others.append("bbox_head.retina_iou")
    return name.startswith(tuple(others))


def name_of_mmdet(name: str) -> str | None:
    """Our name of a tensor of a mmdetection checkpoint; None if we have no such part.

    Args:
        name: such as ``neck.lateral_convs.0.conv.weight``. The level scales, which are one tensor
            here, have no name of their own.
    """
    return _rename(name, _DETECTOR)


def name_of_resnet(name: str) -> str | None:
    """Detectron2's name of a tensor of torchvision's, timm's or mmdetection's ResNet, or None."""
    return _rename(name, _RESNET)


def mmdet_name_of(name: str, head: str) -> str:
    """Name of our tensor in a mmdetection checkpoint; our own if it has none.

    Args:
        name: such as ``head.cls_score.weight``.
        head: of :data:`HEADS`.
    """
    rules = {
        ours: theirs
        for theirs, ours in reversed(_DETECTOR.items())
        if not is_of_another_head(theirs, head)
    }
    return "bbox_head.scales.*.scale" if name == "head.scales" else _rename(name, rules) or name


def _rename(name: str, rules: dict[str, str]) -> str | None:
    module, _, kind = name.rpartition(".")
    if kind not in _KINDS:
        return None
    if module in rules:
        return f"{rules[module]}.{kind}"
    # The number that both share is the first part that is nothing but digits.
    found = re.fullmatch(r"(.*?\.)(\d+)(\..*)?", module)
    ours = rules.get(f"{found[1]}#{found[3] or ''}") if found else None
    return f"{ours.replace('#', found[2])}.{kind}" if found and ours else None
