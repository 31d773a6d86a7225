import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from clq.demo import figures
from clq.demo.figures import (
    Sample,
    best_f1_threshold,
    draw_samples,
    draw_training_curves,
)


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


# ---------------------------------------------------------------------------------- training.png


def drawn_lines(monkeypatch, *args):
    """The plots of `draw_training_curves`: a list per panel of (label, x, y)."""
    drawn = []
    save = figures._save
    monkeypatch.setattr(figures, "_save", lambda fig, out: (drawn.append(fig), save(fig, out)))
    draw_training_curves(*args)
    return [
        [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
        for axes in drawn[0].axes
    ]


def test_training_curves(tmp_path, monkeypatch):
    names = ["test", "other"]
    evaluation = {
        f"{name}/bbox/{metric}": 10.0 * k + len(metric)
        for k, name in enumerate(names, 1)
        for metric in ("AP", "AP50")
    }
    records = [losses(19, 2.0), losses(39, 1.0, **evaluation)]
    file = write_lines(tmp_path / "metrics.json", records)
    out = tmp_path / "pictures" / "training.png"
    loss_lines, ap_lines = drawn_lines(monkeypatch, file, out, names)
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


def test_training_curves_of_one_test_set(tmp_path, monkeypatch):
    """With one test set Detectron2 leaves its name out of the keys."""
    records = [losses(19, 2.0, **{"bbox/AP": 3.0, "bbox/AP50": float("nan")})]
    file = write_lines(tmp_path / "metrics.json", records)
    _, ap_lines = drawn_lines(monkeypatch, file, tmp_path / "training.png", ["test"])
    assert ap_lines[1] == ("test: AP 3.0", [19], [3.0])


def test_training_curves_without_anything(tmp_path, monkeypatch):
    file = write_lines(tmp_path / "metrics.json", [{"iteration": 3, "lr": 0.1}])
    out = tmp_path / "training.png"
    assert drawn_lines(monkeypatch, file, out, ["test"]) == [[], []]
    assert out.stat().st_size > 0


# -------------------------------------------------------------------------------- detections.png

EMPTY = np.zeros((0, 4))


def make_sample(gt_boxes=EMPTY, pred_boxes=EMPTY, scores=(), size=(100, 100), **classes):
    return Sample(
        image=np.full((*size, 3), 128, np.uint8),
        gt_boxes=np.array(gt_boxes, float).reshape(-1, 4),
        pred_boxes=np.array(pred_boxes, float).reshape(-1, 4),
        scores=np.array(scores, float),
        name="tile",
        **classes,
    )


def draw(tmp_path, samples, **options):
    out = tmp_path / "detections.png"
    draw_samples(samples, out, panel_px=200, **options)
    with Image.open(out) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def panels(picture, index=0, count=1, size=(200, 200)):
    """Pixels of the ground truth and the detections of one sample."""
    row, column = divmod(index, min(2, count))
    cell_w, cell_h = size[1] + figures._GAP, size[0] + figures._TITLE + figures._GAP
    top = figures._HEADER + row * cell_h + figures._TITLE
    lefts = [figures._GAP + (2 * column + side) * cell_w for side in (0, 1)]
    return [picture[top : top + size[0], left : left + size[1]] for left in lefts]


def coloured(panel, color):
    """Mask of the pixels of roughly a colour, (200, 200) bool."""
    return np.abs(panel - 255 * np.array(to_rgb(color))).max(-1) < 60


def edges(x0, y0, x1, y1):
    """Pixels within 1 of the outline of a box given in image pixels, at twice the size."""
    near = np.zeros((200, 200), bool)
    near[max(2 * y0 - 2, 0) : 2 * y1 + 2, max(2 * x0 - 2, 0) : 2 * x1 + 2] = True
    near[2 * y0 + 2 : 2 * y1 - 2, 2 * x0 + 2 : 2 * x1 - 2] = False
    return near


def test_boxes_are_drawn_where_they_are(tmp_path):
    """A found and a missed object; a detection that matches, one that doesn't, one too low."""
    found, missed, wrong, low = (
        (10, 20, 40, 60),
        (60, 20, 90, 50),
        (50, 60, 80, 90),
        (5, 70, 25, 90),
    )
    sample = make_sample([found, missed], [found, wrong, low], [0.9, 0.8, 0.1])
    left, right = panels(draw(tmp_path, [sample], score_threshold=0.5))
    for panel, matched, unmatched in ((left, found, missed), (right, found, wrong)):
        is_blue = coloured(panel, figures._MATCHED)
        is_pink = coloured(panel, figures._UNMATCHED)
        assert is_blue[edges(*matched)].mean() > 0.3
        assert 0.2 < is_pink[edges(*unmatched)].mean() < is_blue[edges(*matched)].mean()  # dashes
        assert not is_blue[edges(*unmatched)].any() and not is_pink[edges(*matched)].any()
    assert (left[edges(*wrong)] == 128).all() and (left[edges(*low)] == 128).all()
    assert (right[edges(*missed)] == 128).mean() > 0.9 and (right[edges(*low)] == 128).all()


def test_scores_are_written_above_detections_only(tmp_path):
    box = (30, 50, 70, 90)
    left, right = panels(draw(tmp_path, [make_sample([box], [box], [0.9])], score_threshold=0.5))
    above = (slice(80, 98), slice(60, 140))
    assert (left[above] == 128).all()
    assert coloured(right, figures._MATCHED)[above].sum() > 20


@pytest.mark.parametrize("box", [(90, 50, 130, 90), (-30, 50, 30, 90), (30, -20, 70, 40)])
def test_scores_of_boxes_that_leave_the_image(tmp_path, box):
    _, right = panels(draw(tmp_path, [make_sample([], [box], [0.9])], score_threshold=0.5))
    x0, y0, x1, y1 = np.clip(box, 0, 100)
    outside = ~edges(x0, y0, x1, y1)
    assert (coloured(right, figures._UNMATCHED) & outside).sum() > 20


def test_class_names_are_written_when_there_are_several(tmp_path):
    box = (30, 50, 70, 90)
    classes = {"gt_classes": np.array([1]), "pred_classes": np.array([1])}
    sample = make_sample([box], [box], [0.9], **classes)
    above = (slice(80, 98), slice(60, 140))
    options = {"score_threshold": 0.5}
    one, _ = panels(draw(tmp_path, [sample], class_names=["tree"] * 1, **options))
    two, _ = panels(draw(tmp_path, [sample], class_names=["cell", "platelet"], **options))
    assert (one[above] == 128).all() and (two[above] != 128).any()


@pytest.mark.parametrize("count, rows, columns", [(1, 1, 1), (2, 1, 2), (3, 2, 2), (8, 3, 2)])
def test_grid(tmp_path, count, rows, columns):
    """At most six samples; two a row."""
    picture = draw(tmp_path, [make_sample([(10, 10, 50, 50)])] * count)
    gap, title, header = figures._GAP, figures._TITLE, figures._HEADER
    expected = (header + rows * (200 + title + gap), 2 * columns * (200 + gap) + gap, 3)
    assert picture.shape == expected
    left, right = panels(picture, index=min(count, 6) - 1, count=count)
    assert coloured(left, figures._UNMATCHED).any() and (right == 128).all()


def test_wide_images_keep_their_shape(tmp_path):
    picture = draw(tmp_path, [make_sample([(10, 10, 50, 50)], size=(50, 100))])
    left, right = panels(picture, size=(100, 200))
    assert (right == 128).all() and (left[:, -2:] == 128).all()
    assert coloured(left, figures._UNMATCHED)[:, 98:102].any()


@pytest.mark.parametrize("samples", [[], [make_sample()]])
def test_nothing_to_draw(tmp_path, samples):
    assert draw(tmp_path, samples).size > 0


def test_best_f1_threshold():
    """Scores 0.9 and 0.605 match, 0.7 is wrong, 0.5 repeats the first: F1 2/3, 2/4, 4/5, 4/6."""
    a, b, wrong = (0, 0, 20, 20), (40, 40, 60, 60), (70, 70, 90, 90)
    sample = make_sample([a, b], [a, wrong, b, a], [0.9, 0.7, 0.605, 0.5])
    assert best_f1_threshold([make_sample(), sample]) == 0.6


def test_best_f1_threshold_pools_the_samples():
    """Scores 0.9 and 0.3 match in one image, 0.8 .. 0.5 are wrong in another."""
    a, b = (0, 0, 20, 20), (40, 40, 60, 60)
    good = make_sample([a, b], [a, b], [0.9, 0.3])
    bad = make_sample([], [b] * 4, [0.8, 0.7, 0.6, 0.5])
    assert best_f1_threshold([good]) == 0.3
    assert best_f1_threshold([good, bad]) == 0.9


def test_best_f1_threshold_when_nothing_matches():
    assert best_f1_threshold([]) == 1.0
    assert best_f1_threshold([make_sample([(0, 0, 9, 9)])]) == 1.0
    assert best_f1_threshold([make_sample([], [(0, 0, 9, 9)], [0.5])]) == 1.0


def test_a_detection_of_another_class_does_not_match():
    box = (0, 0, 20, 20)
    classes = {"gt_classes": np.array([0]), "pred_classes": np.array([1])}
    assert best_f1_threshold([make_sample([box], [box], [0.5], **classes)]) == 1.0
