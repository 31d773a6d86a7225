"""A user's own function among INPUT.AUGMENTATIONS: its import, and checks of what it returns."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from clq.data import user_augmentation
from clq.data.augmentations import Context, LabelledImage, as_boxes
from clq.data.user_augmentation import (
    AugmentationError,
    UserAugmentation,
    import_user_functions,
)
from clq.modeling.crowd import CROWD_CLASS

CONTEXT = Context(lambda: pytest.fail("no partner is needed"), (0, 0, 0), "cells/3.png")
IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
BOXES = np.array([[0, 0, 3, 2], [1, 1, 6, 4]], np.float32)
CLASSES = np.array([2, 0])


def sample() -> LabelledImage:
    return LabelledImage(
        tv_tensors.Image(torch.from_numpy(IMAGE).permute(2, 0, 1)),
        as_boxes(torch.from_numpy(BOXES), (4, 6)),
        torch.from_numpy(CLASSES),
    )


def apply(function: Any, lowest_class: int = 0) -> LabelledImage:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(user_augmentation._imported, "mine:augment", function)
        augmentation = UserAugmentation("mine:augment", lowest_class=lowest_class, num_classes=3)
    return augmentation(sample(), CONTEXT)


def test_it_gets_and_returns_arrays():
    def flip(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> Any:
        np.testing.assert_array_equal(image, IMAGE)
        np.testing.assert_array_equal(boxes, BOXES)
        np.testing.assert_array_equal(classes, CLASSES)
        assert (image.dtype, boxes.dtype, classes.dtype) == (np.uint8, np.float32, np.int64)
        assert all(array.flags.writeable for array in (image, boxes, classes))
        boxes[:, [0, 2]] = 6 - boxes[:, [2, 0]]
        return image[:, ::-1], boxes.astype(np.float64), classes.astype(np.int32)

    result = apply(flip)
    np.testing.assert_array_equal(result.image.permute(1, 2, 0), IMAGE[:, ::-1])
    assert result.boxes.tolist() == [[3, 0, 6, 2], [0, 1, 5, 4]]
    assert result.boxes.dtype == torch.float32 and result.boxes.canvas_size == (4, 6)
    assert result.classes.tolist() == [2, 0] and result.classes.dtype == torch.int64


def test_the_sample_is_not_changed_by_it():
    def clear(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> Any:
        image[:], boxes[:], classes[:] = 0, 0, 0
        return image, boxes, classes

    assert len(apply(clear).boxes) == 0
    assert IMAGE.any() and BOXES.any() and CLASSES.any()


def test_boxes_are_clipped_and_empty_ones_left_out():
    boxes = np.array([[-2, -1, 3, 9], [7, 0, 9, 2], [2, 2, 2, 3], [0, 0, 6, 4]], np.float32)
    result = apply(lambda *_: (IMAGE, boxes, np.array([0, 1, 2, 1])))
    assert result.boxes.tolist() == [[0, 0, 3, 4], [0, 0, 6, 4]]
    assert result.classes.tolist() == [0, 1]


def test_another_size_and_no_objects():
    result = apply(lambda image, *_: (image[:2, :3], np.zeros((0, 4)), np.zeros(0, int)))
    assert result.image.shape == (3, 2, 3)
    assert result.boxes.shape == (0, 4) and result.boxes.canvas_size == (2, 3)


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (None, "must return (image, boxes, classes)"),
        ((IMAGE, BOXES), "must return (image, boxes, classes)"),
        ((IMAGE / 255, BOXES, CLASSES), "returned (4, 6, 3) float64 as the image; it must be "),
        ((IMAGE[:, :, 0], BOXES, CLASSES), "returned (4, 6) uint8 as the image"),
        ((torch.zeros(3, 4, 6), BOXES, CLASSES), "returned Tensor as the image"),
        ((IMAGE[:0], BOXES, CLASSES), "returned an image without pixels, (0, 6, 3)"),
        ((IMAGE, BOXES.tolist(), CLASSES), "returned list as the boxes"),
        ((IMAGE, BOXES[:, :3], CLASSES), "returned (2, 3) float32 as the boxes"),
        ((IMAGE, BOXES, CLASSES / 1), "returned (2,) float64 as the classes"),
        ((IMAGE, BOXES, CLASSES[:1]), "returned 2 boxes, but 1 classes"),
        ((IMAGE, BOXES * np.nan, CLASSES), "returned a box that is NaN or infinite"),
        ((IMAGE, BOXES[:, ::-1], CLASSES), "returned the box [2.0, 3.0, 0.0, 0.0], which is not"),
        ((IMAGE, BOXES, CLASSES + 1), "returned the class 3; classes go from 0 to 2"),
        ((IMAGE, BOXES, CLASSES - 1), "returned the class -1; classes go from 0 to 2"),
    ],
)
def test_what_it_returns_is_checked(returned: Any, problem: str):
    with pytest.raises(AugmentationError) as error:
        apply(lambda *_: returned)
    text = str(error.value)
    assert text.startswith(f"mine:augment of INPUT.AUGMENTATIONS {problem}")
    assert text.endswith("; the image was cells/3.png.") and "\n" not in text


def test_a_crowd_may_be_returned_where_crowds_are_kept():
    crowd = np.array([CROWD_CLASS, 1])
    assert apply(lambda *_: (IMAGE, BOXES, crowd), CROWD_CLASS).classes.tolist() == crowd.tolist()


def test_an_error_inside_is_told_with_its_line():
    def fail(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> Any:
        return np.concatenate([boxes, classes])

    line = fail.__code__.co_firstlineno + 1
    with pytest.raises(AugmentationError) as error:
        apply(fail)
    assert "failed (ValueError: all the input arrays must have" in str(error.value)
    assert f"; test_user_augmentation.py, line {line}); the image was" in str(error.value)


def test_an_exit_inside_is_an_error():
    def leave(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> Any:
        sys.exit(3)

    with pytest.raises(AugmentationError, match=r"failed \(SystemExit: 3; "):
        apply(leave)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module, and nothing imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(user_augmentation, "_imported", {})
    code = "LIMIT = 3\nclass Kind: pass\ndef same(image, boxes, classes):\n"
    code += "    return image, boxes, classes\n"
    (tmp_path / "of_a_user.py").write_text(code)
    (tmp_path / "broken_of_a_user.py").write_text("import nothing_like_this\n")
    (tmp_path / "exit_of_a_user.py").write_text("import sys\nsys.exit(0)\n")
    yield tmp_path
    for name in ("of_a_user", "broken_of_a_user"):
        sys.modules.pop(name, None)


def test_a_module_of_the_current_folder_is_imported(folder: Path):
    import_user_functions(["mosaic", "of_a_user:same"])
    result = UserAugmentation("of_a_user:same", lowest_class=0, num_classes=3)(sample(), CONTEXT)
    assert torch.equal(result.boxes, sample().boxes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("of_a_user:g", "AttributeError: module 'of_a_user' has no attribute 'g'"),
        ("of_a_user:", "which is of type module; it must be a function of (image, boxes,"),
        (":same", "ValueError: invalid format"),
        ("broken_of_a_user:f", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("of_a_user:LIMIT", "which is of type int; it must be a function of (image, boxes,"),
        ("of_a_user:Kind", "which is of type type; it must be a function of (image, boxes,"),
        ("exit_of_a_user:f", "SystemExit: 0"),
    ],
)
def test_what_cannot_be_imported_is_refused(folder: Path, name: str, reason: str):
    with pytest.raises(ValueError) as error:
        import_user_functions([name])
    text = str(error.value)
    assert text.startswith(f"INPUT.AUGMENTATIONS has '{name}', which ") and reason in text
    assert "\n" not in text


def test_nothing_is_imported_by_using_a_name(folder: Path):
    with pytest.raises(ValueError, match="which only a training run imports"):
        UserAugmentation("of_a_user:same", lowest_class=0, num_classes=3)
    assert "of_a_user" not in sys.modules
