"""A user's own function among ``INPUT.AUGMENTATIONS``, named ``module:function``.

Letters: H, W height and width of an image, M boxes.
"""

import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from .augmentations import Context, LabelledImage, as_boxes

# On (image, boxes, classes), of which it returns the same.
UserFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

_imported: dict[str, UserFunction] = {}


class AugmentationError(Exception):
    """A user's function failed, or returned what can't be used; the message is for the user."""


def is_user_function(name: str) -> bool:
    """Tell whether an entry of ``INPUT.AUGMENTATIONS`` names a user's function."""
    return ":" in name


def import_user_functions(names: Iterable[str]) -> None:
    """Import the functions among the names, which runs their modules.

    Only a training run that its user has started may call this: a config can be a stranger's.

    Args:
        names: ``INPUT.AUGMENTATIONS``.

    Raises:
        ValueError: a name can't be imported, or is not a function.
    """
    for name in filter(is_user_function, names):
        if os.getcwd() not in sys.path:  # the command ``clq`` leaves it out
            sys.path.append(os.getcwd())
        try:
            function = pkgutil.resolve_name(name)
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"INPUT.AUGMENTATIONS has '{name}', which can't be imported ({reason}); it must be "
                "'module:function' of a module on PYTHONPATH or in this folder."
            ) from error
        if not callable(function) or isinstance(function, type):
            raise ValueError(
                f"INPUT.AUGMENTATIONS has '{name}', which is of type {type(function).__name__}; it "
                "must be a function of (image, boxes, classes)."
            )
        _imported[name] = function


class UserAugmentation:
    """Calls a user's function, and checks what it returns."""

    def __init__(self, name: str, *, lowest_class: int, num_classes: int) -> None:
        """
        Args:
            name: ``module:function``, imported before.
            lowest_class: that the function may return.
            num_classes: above the highest.

        Raises:
            ValueError: the function has not been imported.
        """
        if name not in _imported:
            raise ValueError(
                f"INPUT.AUGMENTATIONS has '{name}', which only a training run imports."
            )
        self._name, self._function = name, _imported[name]
        self._classes = lowest_class, num_classes - 1

    def __call__(self, sample: LabelledImage, context: Context) -> LabelledImage:
        """
        Raises:
            AugmentationError: the function failed, or returned what can't be used.
        """
        image = sample.image.permute(1, 2, 0)  # (H, W, 3)
        arrays = [x.numpy().copy(order="C") for x in (image, sample.boxes, sample.classes)]
        try:
            result = self._function(*arrays)
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[:2][-1]  # of the function itself
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"
            raise self._error(f"failed ({reason}; {place})", context) from error
        if not isinstance(result, (tuple, list)) or len(result) != 3:
            raise self._error("must return (image, boxes, classes)", context)
        problem = _find_problem(*result) or self._find_wrong_class(result[2])
        if problem:
            raise self._error(f"returned {problem}", context)
        return _labelled(*result)

    def _find_wrong_class(self, classes: np.ndarray) -> str:
        low, high = self._classes
        wrong = classes[(classes < low) | (classes > high)]
        return f"the class {wrong[0]}; classes go from {low} to {high}" if len(wrong) else ""

    def _error(self, problem: str, context: Context) -> AugmentationError:
        return AugmentationError(
            f"{self._name} of INPUT.AUGMENTATIONS {problem}; the image was {context.file_name}."
        )


def _find_problem(image: Any, boxes: Any, classes: Any) -> str:
    """Describe what is wrong with the arrays that a function returned; empty if nothing is."""
    if not _is_array(image, "u", 3) or image.dtype != np.uint8 or image.shape[2] != 3:
        return f"{_kind(image)} as the image; it must be (height, width, 3) uint8"
    if not image.size:
        return f"an image without pixels, {image.shape}"
    if not _is_array(boxes, "f", 2) or boxes.shape[1] != 4:
        return f"{_kind(boxes)} as the boxes; they must be (number, 4) float32"
    if not _is_array(classes, "iu", 1):
        return f"{_kind(classes)} as the classes; they must be (number,) int64"
    if len(boxes) != len(classes):
        return f"{len(boxes)} boxes, but {len(classes)} classes"
    if not np.isfinite(boxes).all():
        return "a box that is NaN or infinite"
    wrong = boxes[(boxes[:, 2:] < boxes[:, :2]).any(axis=1)]
    return f"the box {wrong[0].tolist()}, which is not (x0, y0, x1, y1)" if len(wrong) else ""


def _is_array(value: Any, kinds: str, ndim: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in kinds and value.ndim == ndim


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    return type(value).__name__


def _labelled(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> LabelledImage:
    """Clip boxes to the image, and leave out those that are empty then."""
    height, width = image.shape[:2]
    clipped = np.clip(boxes.astype(np.float32), 0, [width, height, width, height])
    kept = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    pixels = np.array(image, order="C").transpose(2, 0, 1)
    return LabelledImage(
        tv_tensors.Image(torch.from_numpy(pixels)),
        as_boxes(torch.from_numpy(clipped[kept].astype(np.float32)), (height, width)),
        torch.from_numpy(classes[kept].astype(np.int64)),
    )
