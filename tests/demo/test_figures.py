import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from clq.demo.figures import Sample, draw_samples, draw_training_curves


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written."""
    written: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *args, **options):
        written.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return written


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def losses(iteration, value, **more):
    names = ("loss_cls", "loss_box_reg", "loss_dfl", "loss_quality")
    return {
        "iteration": iteration,
        "total_loss": 4 * value,
        **dict.fromkeys(names, value),
        **more,
    }


def drawn_lines(saved: list[Figure]) -> list[list[tuple]]:
    """The plots of a figure: a list per panel of (label, x, y)."""
    return [
        [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
        for axes in saved[0].axes
    ]


def test_training_curves(tmp_path, saved):
    names = ["test", "other"]
    evaluation = {
        f"{name}/bbox/{metric}": 10.0 * k + len(metric)
        for k, name in enumerate(names, 1)
        for metric in ("AP", "AP50")
    }
    records = [losses(19, 2.0), losses(39, 1.0, **evaluation)]
    file = write_lines(tmp_path / "metrics.json", records)
    out = tmp_path / "training.png"
    draw_training_curves(file, out, names)
    loss_lines, ap_lines = drawn_lines(saved)
    assert loss_lines == [
        ("total_loss", [19, 39], [8.0, 4.0]),
        *(
            (name, [19, 39], [2.0, 1.0])
            for name in ("loss_cls", "loss_box_reg", "loss_dfl", "loss_quality")
        ),
    ]
    assert ap_lines == [
        ("test: AP50 14.0", [39], [14.0]),
        ("test: AP 12.0", [39], [12.0]),
        ("other: AP50 24.0", [39], [24.0]),
        ("other: AP 22.0", [39], [22.0]),
    ]
    with Image.open(out) as image:
        assert (image.format, image.size) == ("PNG", (1000, 800))


def test_training_curves_of_one_test_set(tmp_path, saved):
    """With one test set Detectron2 leaves its name out of the keys. No curve is of undefined AP."""
    records = [losses(19, 2.0, **{"bbox/AP": 3.0, "bbox/AP50": float("nan")})]
    file = write_lines(tmp_path / "metrics.json", records)
    draw_training_curves(file, tmp_path / "training.png", ["test"])
    _, ap_lines = drawn_lines(saved)
    assert ap_lines == [("test: AP 3.0", [19], [3.0])]


def test_an_evaluation_that_is_written_late_stands_in_its_place(tmp_path, saved):
    records = [losses(39, 1.0, **{"bbox/AP": 6.0}), {"iteration": 29, "bbox/AP": 5.0}]
    file = write_lines(tmp_path / "metrics.json", records)
    draw_training_curves(file, tmp_path / "training.png", ["test"])
    assert drawn_lines(saved)[1] == [("test: AP 6.0", [29, 39], [5.0, 6.0])]


def test_training_curves_without_anything(tmp_path, saved):
    file = write_lines(tmp_path / "metrics.json", [{"iteration": 3, "lr": 0.1}])
    out = tmp_path / "training.png"
    draw_training_curves(file, out, ["test"])
    assert drawn_lines(saved) == [[], []]
    assert out.stat().st_size > 0


def make_sample(gt_scores=(), scores=(), is_match=(), gt_boxes=None, pred_boxes=None) -> Sample:
    """A grey image with boxes of 20 x 10 pixels, unless they are given."""

    def boxes(given, count: int) -> np.ndarray:
        default = [(10 * i, 30, 20, 10) for i in range(count)]
        return np.array(default if given is None else given, float).reshape(-1, 4)

    return Sample(
        image=np.full((50, 100, 3), 128, np.uint8),
        name="tile",
        gt_boxes=boxes(gt_boxes, len(gt_scores)),
        gt_scores=np.array(gt_scores, float),
        pred_boxes=boxes(pred_boxes, len(scores)),
        scores=np.array(scores, float),
        is_match=np.array(is_match, bool),
    )


def drawn_boxes(axes: Axes) -> list[tuple]:
    """(x, y, width, height) of each box, and whether it is drawn as one that matches."""
    kinds = {"-": True, "--": False}
    return [
        (*p.get_xy(), p.get_width(), p.get_height(), kinds[p.get_linestyle()]) for p in axes.patches
    ]


def test_boxes_are_drawn_where_they_are(tmp_path: Path, saved: list[Figure]):
    """Objects found, missed, and found below the threshold; a match, a wrong one, one too low."""
    sample = make_sample(
        [0.9, np.nan, 0.2],
        [0.9, 0.8, 0.2],
        [True, False, True],
        gt_boxes=[(1, 2, 30, 20), (50, 2, 30, 20), (60, 20, 9, 9)],
        pred_boxes=[(2, 2, 30, 20), (5, 25, 30, 20), (60, 21, 9, 9)],
    )
    more = make_sample(scores=[0.85, 0.84, 0.83, 0.82, 0.81], is_match=[False] * 5)
    draw_samples([sample, more], 0.9, tmp_path / "detections.png")
    truth, found = saved[0].axes[:2]
    assert drawn_boxes(truth) == [
        (1, 2, 30, 20, True),
        (50, 2, 30, 20, False),
        (60, 20, 9, 9, False),
    ]
    assert drawn_boxes(found) == [(2, 2, 30, 20, True)]
    assert truth.get_title("left") == "tile: ground truth, 3 objects, 1 found"
    assert found.get_title("left") == "1 detections, 1 match"
    assert truth.patches[0].get_edgecolor() != truth.patches[1].get_edgecolor()
    assert [text.get_text() for text in found.texts] == ["0.90"] and not truth.texts


@pytest.mark.parametrize("box", [(90, 10, 30, 20), (-30, 10, 60, 20), (30, -20, 40, 40)])
def test_scores_of_boxes_that_leave_the_image_stay_inside(tmp_path, saved, box):
    draw_samples(
        [make_sample([0.9], [0.9], [True], pred_boxes=[box])], 0.5, tmp_path / "detections.png"
    )
    found = saved[0].axes[1]
    (text,) = found.texts
    extent, inside = text.get_window_extent(), found.get_window_extent()
    assert inside.x0 <= extent.x0 < extent.x1 <= inside.x1
    assert inside.y0 <= extent.y0 and extent.y1 <= inside.y1 + 2


@pytest.mark.parametrize("count, rows, columns", [(1, 1, 2), (2, 1, 4), (3, 2, 4), (8, 3, 4)])
def test_grid(tmp_path, saved, count, rows, columns):
    """At most six samples; two a row."""
    out = tmp_path / "detections.png"
    draw_samples([make_sample([np.nan])] * count, 1.0, out)
    assert saved[0].axes[0].get_gridspec().get_geometry() == (rows, columns)
    assert sum(len(axes.images) for axes in saved[0].axes) == 2 * min(count, 6)
    with Image.open(out) as image:
        assert image.format == "PNG" and image.width > 700 * columns
