"""Match checkpoint tensors to model parameters."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor

from .read_file import validate_tensor
from .resnet_names import from_torchvision_name
from .weights_file import WeightsFile

_BACKBONE = "backbone.bottom_up."
_BODY = f"{_BACKBONE}body."  # of a torchvision or timm network
_PYRAMID = f"{_BACKBONE}pyramid."  # what CLQ adds to a network of one stride
_STAGE = re.compile(rf"(?:{re.escape(_BACKBONE)})?res\d\.")
_CLASSIFIER = re.compile(r"(?:stem\.fc|fc|head\.fc|linear|classifier)\.")
_CLASS_PREDICTOR = ("head.cls_score.weight", "head.cls_score.bias")
_COUNTER = "num_batches_tracked"  # of a batch norm, which not every release has
# Of Swin, which earlier releases of timm wrote; the network computes them itself.
_COMPUTED = (_COUNTER, "relative_position_index", "attn_mask")


class Match(NamedTuple):
    """Tensors by the model's names, and notes on the others for the log."""

    state: dict[str, Tensor]
    notes: list[str]


def match_state_dict(
    weights: WeightsFile, model: Mapping[str, Tensor], *, may_change_classes: bool
) -> Match:
    """Pair the tensors of a file with those of a model.

    Args:
        weights: of the file.
        model: its state, which stays as it is.
        may_change_classes: leave the class predictor out where the class counts differ.

    Raises:
        ValueError: tensors of a detector are missing, unknown or of another shape, or a backbone
            does not fill the model's; the sentence names them all.
    """
    if weights.kind == "detector":
        return _match_detector(weights, model, may_change_classes=may_change_classes)
    return _match_backbone(weights, model)


def _match_detector(
    weights: WeightsFile, model: Mapping[str, Tensor], *, may_change_classes: bool
) -> Match:
    model, state, notes = dict(model), dict(weights.tensors), []
    predictor = model.get(_CLASS_PREDICTOR[0])
    found, wanted = weights.num_classes, None if predictor is None else len(predictor)
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
    unknown = [name for name in state if name not in model and not name.endswith(_COUNTER)]
    # What has no place has its own name, even where a tensor of ours has the same.
    problems = _problems(state, model, unknown, weights.source_name, weights.unmatched)
    if problems:
        raise ValueError(f"does not fit the model: {'; '.join(problems)}.")
    _validate(state, model, weights.source_name)
    return Match({name: state[name] for name in model if name in state}, notes)


def _match_backbone(weights: WeightsFile, model: Mapping[str, Tensor]) -> Match:
    in_body = any(name.startswith(_BODY) for name in model)
    is_zoo = weights.kind == "zoo"
    is_ours = any(name.startswith(_BACKBONE) for name in weights.tensors)
    tensors: Mapping[str, Tensor] = weights.tensors
    source_names: dict[str, str] = {}
    if is_zoo:
        tensors = _align_zoo(weights, model)
    elif not is_ours:
        source_names = _source_names(tensors, in_body=in_body)
        tensors = {name: tensors[source] for name, source in source_names.items()}

    def source_name(name: str) -> str:
        return source_names.get(name, name)

    trunk = {name for name in model if name.startswith(_BACKBONE)}
    state = {name: tensors[name] for name in model if name in trunk and name in tensors}
    # No classifier has offsets, which start at 0, or a pyramid.
    optional = {n for n in trunk if ".conv2_offset." in n or n.startswith(_PYRAMID)}
    if is_zoo:  # its norms may be folded: statistics of 0 and 1 are left out
        optional |= {n for n in trunk if n.endswith((".norm.running_mean", ".norm.running_var"))}
    left = [name for name in tensors if name not in state and not name.endswith(_COMPUTED)]
    skipped = _skipped_in_body(list(tensors), state)
    all_known = not (is_zoo or is_ours or in_body)  # only the classifier may be left over
    unknown = [
        name
        for name in left
        if _STAGE.match(name) or name in skipped or (all_known and not _CLASSIFIER.match(name))
    ]
    needed = (trunk - optional) | state.keys()
    wanted = {name: model[name] for name in model if name in needed}
    problems = _problems(state, wanted, unknown, source_name)
    if problems:
        raise ValueError(f"does not fit the model's backbone: {'; '.join(problems)}.")
    _validate(state, model, source_name)
    missing = [name for name in model if name not in state and not name.endswith(_COUNTER)]
    notes = [f"The weights are those of a backbone; new are {_grouped(missing)}."]
    if left:
        notes.append(f"Not used of the file: {_grouped(list(map(source_name, left)))}.")
    return Match(state, notes)


def _align_zoo(weights: WeightsFile, model: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Let Detectron2 rename tensors of a model zoo, whose names are ends of the model's."""
    is_caffe2 = weights.metadata["author"] == "Caffe2"
    try:
        return align_and_update_state_dicts(model, dict(weights.tensors), c2_conversion=is_caffe2)
    except Exception as error:  # it takes any file for one of the zoo
        raise ValueError("does not fit: Detectron2 can't tell its tensors apart.") from error


def _source_names(names: Iterable[str], *, in_body: bool) -> dict[str, str]:
    """A classifier's names by the model's, or by themselves where the model has no such part."""
    source_names: dict[str, str] = {}
    for name in names:
        bare = name.removeprefix("backbone.")
        renamed = f"body.{bare}" if in_body else from_torchvision_name(bare)
        target = f"{_BACKBONE}{renamed}" if renamed else name
        source_names[name if target in source_names else target] = name
    return source_names


def _skipped_in_body(names: Sequence[str], used: Collection[str]) -> set[str]:
    """Names that lie between those which a network with its classifier cut off uses.

    What follows its last module was cut off, and has no place for a good reason. Some files keep
    the order of the modules, others sort by name; only what comes earlier by both is skipped.

    Args:
        names: all of the file, by the model's names.
        used: those which have a place.
    """
    places = [i for i, name in enumerate(names) if name in used and name.startswith(_BODY)]
    if not places:
        return set()
    parts = {name: name.removeprefix(_BODY).partition(".")[0] for name in names}
    tops = {parts[names[i]] for i in places}
    last = max(_natural_key(names[i]) for i in places)
    return {
        name
        for name in names[: places[-1]]
        if name.startswith(_BODY) and name not in used and not name.endswith(_COMPUTED)
        if parts[name] in tops and _natural_key(name) < last
    }


def _natural_key(name: str) -> list[tuple[int, str]]:
    """A key that sorts names with their numbers counted, not spelled."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _problems(
    state: Mapping[str, Tensor],
    model: Mapping[str, Tensor],
    unknown: Iterable[str],
    source_name: Callable[[str], str],
    unmatched: Iterable[str] = (),
) -> list[str]:
    """Word what keeps a state from filling a model.

    No place in it have ``unknown``, names of the state, and ``unmatched``, names in the file.
    """

    def both(name: str) -> str:
        source = source_name(name)
        return name if name == source else f"{name} (there {source})"

    missing = [both(name) for name in model if name not in state and not name.endswith(_COUNTER)]
    reshaped = [
        f"{both(name)} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in model.items()
        if name in state and state[name].shape != value.shape
    ]
    kinds = {
        "missing tensors": missing,
        "tensors of another shape": reshaped,
        "unknown tensors": [*map(both, unknown), *unmatched],
    }
    return [f"{kind} ({len(n)}): {', '.join(n)}" for kind, n in kinds.items() if n]


def _validate(
    state: Mapping[str, Tensor], model: Mapping[str, Tensor], source_name: Callable[[str], str]
) -> None:
    """Reject values that are no weights, such as integers, where the model has weights."""
    try:
        for name, tensor in state.items():
            if name in model and model[name].is_floating_point():
                validate_tensor(source_name(name), tensor)
    except ValueError as error:
        raise ValueError(f"can't be used: {error}") from None


def _grouped(names: Collection[str]) -> str:
    """The first two levels of the names' modules, with how many tensors each has."""
    modules = Counter(".".join(name.split(".")[:-1][:2]) or name for name in names)
    return ", ".join(f"{module} ({count})" for module, count in modules.items())
