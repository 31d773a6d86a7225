"""The figures: what is drawn, and that facts without a number can be drawn too."""

import io

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from clq.evaluation import METRIC_NAMES
from clq.evaluation.report import figures

UNDEFINED = {"value": None, "low": None, "high": None}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def bars(axes):
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(patch.get_x(), patch.get_width(), patch.get_height()) for patch in found]


def test_png_is_large_enough_for_a_dense_screen():
    figure, _ = figures.new_axes(3)
    image = Image.open(io.BytesIO(figures.as_png(figure)))
    assert image.format == "PNG" and image.size == (960, 480)


def test_a_value_stands_beside_an_interval_over_the_whole_width():
    wide = {"AP": {"value": 50.0, "low": 0.0, "high": 100.0}}
    (axes,) = figures.draw_metrics(wide).axes
    (text,) = axes.texts
    assert 100 < text.get_position()[0] < axes.get_xlim()[1] and text.get_ha() == "left"


def test_metrics_are_dots_with_intervals():
    metrics = {name: {"value": 50.0, "low": 40.0, "high": 70.0} for name in METRIC_NAMES[:2]}
    metrics["APs"] = UNDEFINED
    (axes,) = figures.draw_metrics(metrics).axes
    spans = [list(line.get_xdata()) for line in axes.lines]
    assert spans == [[40.0, 70.0], [50.0]] * 2
    assert texts(axes) == ["50.0", "50.0", "undefined"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["AP", "AP50", "APs"]


@pytest.mark.parametrize("best", [None, {"score": 0.4, "f1": 0.7}])
def test_thresholds(best):
    curve = {
        "score": [0.0, 0.5, 1.0],
        "precision": [0.2, 0.9, None],
        "recall": [1.0, 0.5, 0.0],
        "f1": [0.3, 0.7, None],
    }
    (axes,) = figures.draw_thresholds(curve, best).axes
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(drawn["precision"], [0.2, 0.9, np.nan])
    assert list(drawn["recall"]) == [1.0, 0.5, 0.0]
    assert ("best F1" in drawn) == (best is not None)
    if best:
        assert list(drawn["best F1"]) == [0.7]


def test_of_many_classes_the_lowest_are_drawn():
    rows = [{"name": f"c{k}", "AP": float(k), "low": None, "high": None} for k in range(80)]
    rows.append({"name": "never", "AP": None, "low": None, "high": None})
    (axes,) = figures.draw_classes(rows).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"c{k}" for k in range(29, -1, -1)]


def test_sizes_say_what_is_undefined():
    metrics = {f"{kind}{size}": {"value": 20.0} for kind in ("AP", "AR") for size in "sml"}
    metrics["APs"] = {"value": None}
    (axes,) = figures.draw_sizes(metrics).axes
    assert [height for _, _, height in bars(axes)] == [0, 20, 20, 20, 20, 20]
    assert texts(axes) == ["–", "20", "20", "20", "20", "20"]


def test_ious():
    (axes,) = figures.draw_ious([{"iou": 0.5, "AP": 80.0}, {"iou": 0.55, "AP": None}]).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [80.0, np.nan])


def test_errors_stand_in_their_order():
    costs = {"localization": 1.0, "both": 0.0, "missed": 7.5}
    (axes,) = figures.draw_errors(costs).axes
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == list(costs)
    assert [width for _, width, _ in bars(axes)][::-1] == [1, 0, 7.5]


def test_confusion_shades_each_row_by_its_share():
    (axes,) = figures.draw_confusion([[6, 2, 0], [0, 3, 1], [4, 0, 0]], ["a", "b$"]).axes
    shades = axes.images[0].get_array()
    np.testing.assert_allclose(shades, [[0.75, 0.25, 0], [0, 0.75, 0.25], [1, 0, 0]])
    assert texts(axes) == ["6", "2", "3", "1", "4"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", r"b\$", "background"]


def test_reliability_leaves_out_empty_bins():
    bins = [
        {"low": 0.0, "high": 0.1, "score": None, "iou": None, "count": 0},
        {"low": 0.1, "high": 0.2, "score": 0.16, "iou": 0.5, "count": 9},
    ]
    (axes,) = figures.draw_reliability(bins, "iou", "mean IoU").axes
    assert bars(axes) == [(0.1, pytest.approx(0.1), 0.5)]
    assert axes.collections[0].get_offsets().tolist() == [[0.16, 0.5]]
    assert texts(axes) == ["9"]
    figures.as_png(figures.draw_reliability(bins[:1], "iou", "mean IoU"))


@pytest.mark.parametrize("name", ["細胞" * 20, "a\nb\x1b[31m", "\ud800", "$x^2$", "a" * 500])
def test_any_name_can_be_drawn(name, recwarn):
    rows = [{"name": name, "AP": 1.0, "low": None, "high": None}]
    figures.as_png(figures.draw_classes(rows))
    assert not recwarn.list
