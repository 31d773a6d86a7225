"""Detectron2's names of a ResNet's tensors, from those of torchvision and timm.

A rule pairs two names of a module, where ``#`` stands for a number that both share.
"""

import re

_BLOCK = {
    **{f"conv{i}": f"conv{i}" for i in (1, 2, 3)},
    **{f"bn{i}": f"conv{i}.norm" for i in (1, 2, 3)},
    "downsample.0": "shortcut",
    "downsample.1": "shortcut.norm",
    # Of deformable stages, which only ResNets of detectors have.
    "conv2.conv_offset": "conv2_offset",
    "conv2_offset": "conv2_offset",
}
RESNET_RULES = {"conv1": "stem.conv1", "bn1": "stem.conv1.norm"} | {
    f"layer{stage}.#.{theirs}": f"res{stage + 1}.#.{ours}"
    for stage in range(1, 5)
    for theirs, ours in _BLOCK.items()
}
_KINDS = ("weight", "bias", "running_mean", "running_var")


def from_torchvision_name(name: str) -> str | None:
    """Detectron2's name of a ResNet's tensor; None if it has no such part."""
    return apply_rules(name, RESNET_RULES)


def apply_rules(name: str, rules: dict[str, str]) -> str | None:
    """Rename a tensor by the rule for its module; None if there is none."""
    module, _, kind = name.rpartition(".")
    if kind not in _KINDS:
        return None
    if module in rules:
        return f"{rules[module]}.{kind}"
    # The number that both share is the first part that is nothing but digits.
    found = re.fullmatch(r"(.*?\.)(\d+)(\..*)?", module)
    renamed = rules.get(f"{found[1]}#{found[3] or ''}") if found else None
    return f"{renamed.replace('#', found[2])}.{kind}" if found and renamed else None
