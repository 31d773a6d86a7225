"""Match checkpoint tensors to model parameters."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor

from .contents import Contents
from .mmdet.names import is_no_weight, name_of_resnet
from .read_file import validate_tensor

__all__ = ["Fit", "fit"]

_BACKBONE = "backbone.bottom_up."
_BODY = f"{_BACKBONE}body."  # of a torchvision extractor
_STAGE = re.compile(rf"(?:{re.escape(_BACKBONE)})?res\d\.")
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
    in_body = any(name.startswith(_BODY) for name in model)
    is_zoo = contents.kind == "zoo"
    is_ours = any(name.startswith(_BACKBONE) for name in contents.tensors)
    tensors: dict[str, Tensor] = dict(contents.tensors)
    there: dict[str, str] = {}
    if is_zoo:  # its names are ends of ours
        from_caffe2 = contents.rest["author"] == "Caffe2"
        try:
            tensors = align_and_update_state_dicts(model, tensors, c2_conversion=from_caffe2)
        except Exception as error:  # it takes any file for one of the zoo
            raise ValueError("does not fit: Detectron2 can't tell its tensors apart.") from error
    elif not is_ours:
        tensors, there = _renamed(tensors, in_body=in_body)
    all_known = not (is_zoo or is_ours or in_body)
    return _fit_backbone(tensors, model, there=there, folded_norms=is_zoo, all_known=all_known)


def _renamed(
    tensors: Mapping[str, Tensor], *, in_body: bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a classifier by the model's names, and their own names by those."""
    ours: dict[str, Tensor] = {}
    there: dict[str, str] = {}
    for name, tensor in tensors.items():
        target = _backbone_name(name, in_body=in_body)
        if target in ours:
            target = name  # which then has no place
        ours[target], there[target] = tensor, name
    return ours, there


def _backbone_name(name: str, *, in_body: bool) -> str:
    """Where a tensor of a classifier belongs; its own name if nowhere."""
    bare = name.removeprefix("backbone.")
    if in_body:
        return f"{_BODY}{bare}"
    renamed = name_of_resnet(bare)
    return f"{_BACKBONE}{renamed}" if renamed else name


def _fit_detector(
    contents: Contents, model: Mapping[str, Tensor], *, may_change_classes: bool
) -> Fit:
    model, state, notes = dict(model), dict(contents.tensors), []
    weight = model.get(_CLASS_PREDICTOR[0])
    found, wanted = contents.num_classes, None if weight is None else len(weight)
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
    unknown = [name for name in state if name not in model and not is_no_weight(name)]
    there = contents.name_there
    # What has no place has its own name, even where a tensor of ours has the same.
    others = [name for name in contents.unknown if not is_no_weight(name)]
    problems = _problems(state, model, unknown, there, others)
    if problems:
        raise ValueError(f"does not fit the model: {'; '.join(problems)}.")
    _check_weights(state, model, there)
    return Fit({name: state[name] for name in model if name in state}, notes)


def _fit_backbone(
    tensors: Mapping[str, Tensor],
    model: Mapping[str, Tensor],
    *,
    there: Mapping[str, str],
    folded_norms: bool,
    all_known: bool,
) -> Fit:
    """
    Args:
        tensors: by the model's names, or others.
        model: its state.
        there: names in the file by ours, where they differ.
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
    left = [name for name in tensors if name not in state and not is_no_weight(name)]
    inside = _inside_body(list(tensors), state)
    unknown = [n for n in left if _STAGE.match(n) or n in inside or (all_known and _is_odd(n))]

    def name_there(name: str) -> str:
        return there.get(name, name)

    wanted = {name: model[name] for name in model if name in needed}
    problems = _problems(state, wanted, unknown, name_there)
    if problems:
        raise ValueError(f"does not fit the model's backbone: {'; '.join(problems)}.")
    _check_weights(state, model, name_there)
    missing = [name for name in model if name not in state and not is_no_weight(name)]
    notes = [f"The weights are those of a backbone; new are {_grouped(missing)}."]
    if left:
        notes.append(f"Not used of the file: {_grouped(list(map(name_there, left)))}.")
    return Fit(state, notes)


def _inside_body(names: Sequence[str], used: Collection[str]) -> set[str]:
    """Names that lie between those which a torchvision extractor uses.

    What follows its last module was cut off, and has no place for a good reason. Some files keep
    the order of the modules, others sort by name; only what comes earlier by both is inside.

    Args:
        names: all of the file, by the model's names.
        used: those which have a place.
    """
    places = [i for i, name in enumerate(names) if name in used and name.startswith(_BODY)]
    if not places:
        return set()
    parts = {name: name.removeprefix(_BODY).partition(".")[0] for name in names}
    tops = {parts[names[i]] for i in places}
    last = max(_natural(names[i]) for i in places)
    return {
        name
        for name in names[: places[-1]]
        if name.startswith(_BODY) and name not in used and not is_no_weight(name)
        if parts[name] in tops and _natural(name) < last
    }


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts names with their numbers counted, not spelled."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _is_odd(name: str) -> bool:
    """Tell whether a tensor that has no place belongs to no classifier either."""
    return not re.match(r"(stem\.fc|fc|head\.fc|linear|classifier)\.", name)


def _problems(
    state: Mapping[str, Tensor],
    model: Mapping[str, Tensor],
    unknown: Iterable[str],
    name_there: Callable[[str], str],
    others: Iterable[str] = (),
) -> list[str]:
    """Word what keeps a state from filling a model.

    Args:
        state: by the model's names.
        model: its state.
        unknown: names of the state that have no place in the model.
        name_there: what the file calls a tensor.
        others: names in the file of tensors that have no place either.
    """

    def both(name: str) -> str:
        there = name_there(name)
        return name if name == there else f"{name} (there {there})"

    missing = [both(name) for name in model if name not in state and not is_no_weight(name)]
    reshaped = [
        f"{both(name)} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in model.items()
        if name in state and state[name].shape != value.shape
    ]
    kinds = {
        "missing tensors": missing,
        "tensors of another shape": reshaped,
        "unknown tensors": [*map(both, unknown), *others],
    }
    return [f"{kind} ({len(n)}): {', '.join(n)}" for kind, n in kinds.items() if n]


def _check_weights(
    state: Mapping[str, Tensor], model: Mapping[str, Tensor], name_there: Callable[[str], str]
) -> None:
    """Refuse values that are no weights, such as integers, where the model has weights."""
    try:
        for name, tensor in state.items():
            if name in model and model[name].is_floating_point():
                validate_tensor(name_there(name), tensor)
    except ValueError as error:
        raise ValueError(f"can't be used: {error}") from None


def _grouped(names: Collection[str]) -> str:
    """The first two levels of the names' modules, with how many tensors each has."""
    modules = Counter(".".join(name.split(".")[:-1][:2]) or name for name in names)
    return ", ".join(f"{module} ({count})" for module, count in modules.items())
