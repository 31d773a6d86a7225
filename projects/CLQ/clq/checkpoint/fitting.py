"""Which of a file's tensors go where in a model, or why they do not."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor

from .contents import Contents
from .mmdet_names import is_no_weight, name_of_resnet

__all__ = ["Fit", "fit"]

_BACKBONE = "backbone.bottom_up."
_CLASS_PREDICTOR = ("head.cls_score.weight", "head.cls_score.bias")


class Fit(NamedTuple):
    """Tensors by the model's names, and what to say about the others."""

    state: dict[str, Tensor]
    notes: list[str]


def fit(contents: Contents, model: Mapping[str, Tensor], *, may_change_classes: bool) -> Fit:
    """Pair the tensors of a file with those of a model.

    Args:
        contents: of the file.
        model: its state, which stays as it is.
        may_change_classes: leave the class predictor out where the class counts differ.

    Raises:
        ValueError: tensors of a detector are missing, unknown or of another shape, or a backbone
            does not fill the model's; the sentence names them all.
    """
    if contents.kind == "detector":
        return _fit_detector(contents, model, may_change_classes=may_change_classes)
    tensors, in_body = contents.tensors, any(n.startswith(f"{_BACKBONE}body.") for n in model)
    is_zoo, is_ours = contents.kind == "zoo", any(n.startswith(_BACKBONE) for n in tensors)
    if is_zoo:  # its names are ends of ours
        from_caffe2 = contents.rest["author"] == "Caffe2"
        tensors = align_and_update_state_dicts(model, dict(tensors), c2_conversion=from_caffe2)
    elif not is_ours:
        tensors = {_backbone_name(name, in_body=in_body): value for name, value in tensors.items()}
    all_known = not (is_zoo or is_ours or in_body)
    return _fit_backbone(tensors, model, folded_norms=is_zoo, all_known=all_known)


def _backbone_name(name: str, *, in_body: bool) -> str:
    """Where a tensor of a classifier belongs; its own name if nowhere."""
    if in_body:
        return f"{_BACKBONE}body.{name}"
    renamed = name_of_resnet(name.removeprefix("backbone."))
    return f"{_BACKBONE}{renamed}" if renamed else name


def _fit_detector(
    contents: Contents, model: Mapping[str, Tensor], *, may_change_classes: bool
) -> Fit:
    model, state, notes = dict(model), dict(contents.tensors), []
    weight = _CLASS_PREDICTOR[0]
    found, wanted = (len(side[weight]) if weight in side else 0 for side in (state, model))
    if found and wanted and found != wanted:
        if not may_change_classes:
            raise ValueError(
                f"has {found} classes, but the model has {wanted}; only a training that starts "
                "anew, without --resume and --eval-only, can change their number."
            )
        for side in (state, model):
            for name in _CLASS_PREDICTOR:
                side.pop(name, None)
        notes.append(
            f"The weights have {found} classes and the model {wanted}: head.cls_score starts anew."
        )
    problems = _problems(state, model, contents.name_there)
    unknown = [name for name in state if name not in model and not is_no_weight(name)]
    if unknown:
        problems.append(f"unknown tensors ({len(unknown)}): {', '.join(unknown)}")
    if problems:
        raise ValueError(f"does not fit the model: {'; '.join(problems)}.")
    return Fit({name: state[name] for name in model if name in state}, notes)


def _fit_backbone(
    tensors: Mapping[str, Tensor],
    model: Mapping[str, Tensor],
    *,
    folded_norms: bool,
    all_known: bool,
) -> Fit:
    """
    Args:
        tensors: by the model's names, or others.
        model: its state.
        folded_norms: the file may lack the statistics of norms, as they are 0 and 1 there.
        all_known: what is left of the file may be the classifier alone.
    """
    trunk = {name for name in model if name.startswith(_BACKBONE)}
    state = {name: tensors[name] for name in model if name in trunk and name in tensors}
    # No classifier has offsets; they start at 0.
    optional = {name for name in trunk if ".conv2_offset." in name}
    if folded_norms:
        optional |= {n for n in trunk if n.endswith((".norm.running_mean", ".norm.running_var"))}
    needed = (trunk - optional) | state.keys()
    problems = _problems(state, {name: model[name] for name in model if name in needed})
    left = [name for name in tensors if name not in state and not is_no_weight(name)]
    unknown = [n for n in left if n.startswith(f"{_BACKBONE}res") or (all_known and _is_odd(n))]
    if unknown:
        problems.append(f"unknown tensors ({len(unknown)}): {', '.join(unknown)}")
    if problems:
        raise ValueError(f"does not fit the model's backbone: {'; '.join(problems)}.")
    missing = [name for name in model if name not in state and not is_no_weight(name)]
    notes = [f"The weights are those of a backbone; new are {_grouped(missing)}."]
    if left:
        notes.append(f"Not used of the file: {_grouped(left)}.")
    return Fit(state, notes)


def _is_odd(name: str) -> bool:
    """Whether a tensor that has no place belongs to no classifier either."""
    return not re.match(r"(stem\.fc|fc|head\.fc|linear|classifier)\.", name)


def _problems(
    state: Mapping[str, Tensor],
    model: Mapping[str, Tensor],
    name_there: Callable[[str], str] = str,
) -> list[str]:
    """What keeps a state from filling a model, in words.

    Args:
        state: by the model's names.
        model: its state.
        name_there: what the file calls a tensor.
    """

    def listed(names: Iterable[str]) -> str:
        there = ((name, name_there(name)) for name in names)
        return ", ".join(name if name == t else f"{name} (there {t})" for name, t in there)

    problems = []
    missing = [name for name in model if name not in state and not is_no_weight(name)]
    if missing:
        problems.append(f"missing tensors ({len(missing)}): {listed(missing)}")
    reshaped = [n for n in model if n in state and state[n].shape != model[n].shape]
    if reshaped:
        shapes = [
            f"{name} {tuple(state[name].shape)} for {tuple(model[name].shape)}" for name in reshaped
        ]
        problems.append(f"tensors of another shape ({len(reshaped)}): {', '.join(shapes)}")
    return problems


def _grouped(names: Collection[str]) -> str:
    """The first two levels of the names' modules, with how many tensors each has."""
    modules = Counter(".".join(name.split(".")[:-1][:2]) or name for name in names)
    return ", ".join(f"{module} ({count})" for module, count in modules.items())
