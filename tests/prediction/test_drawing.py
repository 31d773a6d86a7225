"""Boxes where they belong, and labels that are whole and large enough to read."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import VisImage

from clq.prediction import drawing
from clq.prediction.drawing import draw_detections, draw_ground_truth
from reference.prediction import detections


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[VisImage]:
    """The figure that matplotlib drew, with its texts."""
    seen: list[VisImage] = []
    fit = drawing._fit_labels
    monkeypatch.setattr(drawing, "_fit_labels", lambda output: (fit(output), seen.append(output)))
    return seen


def texts(output: VisImage) -> list[str]:
    return sorted(text.get_text() for text in output.ax.texts)


@pytest.mark.parametrize(("size", "scale"), [((60, 80), 10), ((400, 300), 2), ((700, 900), 1)])
def test_small_images_are_enlarged_by_a_whole_number(size: tuple[int, int], scale: int):
    picture = draw_detections(grey(*size), detections([], [], [], size), [], 0.5)
    assert picture.shape == (scale * size[0], scale * size[1], 3) and picture.dtype == np.uint8
    assert (picture == 128).all()


def test_the_picture_is_red_first():
    image = grey(400, 800)
    image[:, :, 0] = 255  # blue
    picture = draw_detections(image, detections([], [], [], (400, 800)), [], 0.5)
    assert (picture == (128, 128, 255)).all()


def test_a_box_is_drawn_around_its_object():
    found = detections([[20, 10, 60, 30]], [0.9], [0], (40, 80))
    picture = draw_detections(grey(40, 80), found, ["a"], 0.5)  # enlarged 10 times
    changed = (picture != 128).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    edges = [columns[0], rows[0], columns[-1], rows[-1]]
    np.testing.assert_allclose(edges, [200, 100, 600, 300], atol=4)
    assert not changed[150:290, 210:590].any()


def test_labels_are_class_and_score_of_what_reaches_the_threshold(drawn: list[VisImage]):
    boxes = [[10, 10, 90, 90], [100, 100, 190, 190], [20, 100, 80, 180], [100, 20, 180, 90]]
    found = detections(boxes, [0.875, 0.6, 0.5, 0.49], [1, 0, 1, 0], (200, 200))
    draw_detections(grey(200, 200), found, ["tree", "old bush"], 0.5)
    assert texts(drawn[0]) == ["old bush 0.50", "old bush 0.88", "tree 0.60"]
    colors = {patch.get_edgecolor()[:3] for patch in drawn[0].ax.patches}
    assert len(drawn[0].ax.patches) == 3 and len(colors) == 2


def test_ground_truth_is_drawn_as_detections_are_but_without_scores(drawn: list[VisImage]):
    boxes = [[10, 10, 90, 90], [100, 100, 190, 190]]
    found = detections(boxes, [0.875, 0.6], [1, 0], (200, 200))
    objects = Instances((200, 200), gt_boxes=Boxes(torch.from_numpy(found.boxes)))
    objects.gt_classes = torch.from_numpy(found.classes)
    names = ["tree", "$5 bush"]
    pictures = draw_ground_truth(grey(200, 200), objects, names), draw_detections(
        grey(200, 200), found, names, 0.5
    )
    assert texts(drawn[0]) == [r"\$5 bush", "tree"]
    colors = [{patch.get_edgecolor() for patch in output.ax.patches} for output in drawn]
    assert colors[0] == colors[1] and len(colors[0]) == 2
    assert pictures[0].shape == pictures[1].shape == (800, 800, 3)
    assert (pictures[0][760:, 400:760] == pictures[1][760:, 400:760]).all(), "boxes agree"
    empty = Instances((200, 200), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0))
    assert (draw_ground_truth(grey(200, 200), empty, []) == 128).all()


@pytest.mark.parametrize("name", ["$5 bill", "$a$", "a_b^c", "50 %", "Straße", "\\x"])
def test_any_class_name_is_drawn_as_it_is(name: str, drawn: list[VisImage]):
    found = detections([[10, 10, 90, 90]], [0.75], [0], (200, 200))
    picture = draw_detections(grey(200, 200), found, [name], 0.5)
    assert (picture != 128).any()
    assert [text.replace(r"\$", "$") for text in texts(drawn[0])] == [f"{name} 0.75"]


@pytest.mark.parametrize("size", [(48, 64), (300, 400), (900, 1200)])
@pytest.mark.parametrize("place", ["left top", "right top", "left bottom", "right bottom"])
def test_labels_at_the_border_are_whole_and_readable(
    size: tuple[int, int], place: str, drawn: list[VisImage]
):
    height, width = size
    x = 0 if "left" in place else width - 6
    y = 0 if "top" in place else height - 6
    found = detections([[x, y, x + 6, y + 6]], [0.75], [0], size)
    draw_detections(grey(*size), found, ["a long class name"], 0.5)
    (text,) = drawn[0].ax.texts
    box = text.get_window_extent(drawn[0].canvas.get_renderer())
    right, top = drawn[0].canvas.get_width_height()
    assert box.x0 >= -0.01 and box.y0 >= -0.01
    assert box.x1 <= right + 0.01 and box.y1 <= top + 0.01
    assert box.height >= 10


def test_a_label_in_the_middle_stays_where_it_is(drawn: list[VisImage]):
    found = detections([[300, 200, 500, 400]], [0.75], [0], (800, 800))
    draw_detections(grey(800, 800), found, ["a"], 0.5)
    (text,) = drawn[0].ax.texts
    np.testing.assert_allclose(text.get_position(), (300, 200), atol=0.01)
