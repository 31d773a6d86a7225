"""The file of a run's matches, from which every interval and curve can be computed again."""

from pathlib import Path

import numpy as np

from clq.evaluation.report.matches import Matches
from clq.utils.atomic_write import open_atomically

# What a file is small with; they hold any number of images, classes and objects of the study.
_TYPES = {
    "image": np.uint32,
    "label": np.uint16,
    "score": np.float16,
    "iou": np.float16,
    "num_objects": np.uint16,
}
_FLAGS = ("is_match", "is_ignored")


def save_matches(path: Path, matches: Matches) -> None:
    """Write a run's matches as a compressed npz; scores and IoUs keep three digits."""
    arrays = {name: getattr(matches, name).astype(type_) for name, type_ in _TYPES.items()}
    arrays |= {name: np.packbits(getattr(matches, name), axis=0) for name in _FLAGS}
    with open_atomically(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_matches(path: Path) -> Matches:
    """Read what ``save_matches`` has written."""
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    for name in _FLAGS:
        values[name] = np.unpackbits(values[name], axis=0, count=len(values["image"])).astype(bool)
    return Matches(**values)
